"""Models by name and by import path: shapes, the seed's reach, and what a wrong --model says."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileprune.errors import UsageError
from mobileprune.models import MODELS, build

SHAPE = (1, 28, 28)

USER_CODE = """
    import torch
    from torch import nn

    CONSTANT = 3

    def both(num_classes, input_shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[1] * input_shape[2], num_classes))

    def classes_only(num_classes=2):
        return nn.Sequential(nn.Flatten(), nn.Linear(6, num_classes))

    def neither():
        return nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(6, 5))

    def seven_outputs():
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 7))

    def no_tensor():
        return nn.LSTM(3, 5)

    def not_a_module():
        return "a string"

    def needs_more(width):
        return nn.Linear(1, width)

    class Net(nn.Linear):
        def __init__(self, num_classes):
            super().__init__(6, num_classes)

        def forward(self, x):
            return super().forward(x.flatten(1))
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``own_pkg.nets`` in the current folder, which is not on the import path."""
    (tmp_path / "own_pkg").mkdir()
    (tmp_path / "own_pkg" / "__init__.py").touch()
    (tmp_path / "own_pkg" / "nets.py").write_text(textwrap.dedent(USER_CODE))
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [m for m in sys.modules if m.partition(".")[0] == "own_pkg"]:
        del sys.modules[name]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_lenet5_is_the_literatures() -> None:
    assert parameters(build("lenet5", num_classes=10, input_shape=SHAPE, seed=0)) == 61_706
    assert parameters(build("lenet5", num_classes=10, input_shape=(1, 32, 32), seed=0)) == 61_706


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.sampled_from([1, 3]), st.integers(12, 45), st.integers(12, 45), st.integers(2, 11))
def test_lenet5_takes_every_size_from_12(channels, height, width, num_classes):
    model = build("lenet5", num_classes=num_classes, input_shape=(channels, height, width), seed=0)
    assert model(torch.zeros(2, channels, height, width)).shape == (2, num_classes)


@pytest.mark.parametrize("size", [(11, 28), (28, 11), (1, 1), (40, 11)])
def test_lenet5_refuses_smaller_images(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"at least 12x12, got {size[0]}x{size[1]}"):
        build("lenet5", num_classes=10, input_shape=(1, *size), seed=0)


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(name, num_classes=4, input_shape=SHAPE, seed=5)
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is untouched"
    torch.manual_seed(2)
    again, other = (build(name, num_classes=4, input_shape=SHAPE, seed=seed) for seed in (5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert not any(module.training for module in first.modules())


@pytest.mark.parametrize("function", ["both", "classes_only", "neither", "Net"])
def test_user_functions_are_found_in_the_current_folder(user_module: Path, function: str) -> None:
    model = build(f"own_pkg.nets:{function}", num_classes=5, input_shape=(1, 2, 3), seed=0)
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    assert last.out_features == 5
    assert function != "both" or last.in_features == 6
    assert not model.training


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("lenet", "did you mean 'lenet5'"),
        ("resnet", r"choose from lenet5, package\.module:function"),
        ("own_pkg.nets:absent", r"cannot import .*absent.*; write package\.module:function"),
        ("own_pkg.absent:f", "cannot import .*absent"),
        ("absent_pkg:f", "cannot import .*absent_pkg"),
        (":both", "cannot import"),
        ("own_pkg.nets:", "cannot import"),
        ("./own_pkg/nets.py:both", r"cannot import .*; write package\.module:function"),
        (".nets:both", "cannot import"),
        ("own_pkg.nets:CONSTANT", "CONSTANT is not a function"),
        ("own_pkg.nets:not_a_module", r"returned str; it must return a torch\.nn\.Module"),
        ("own_pkg.nets:needs_more", "width"),
        ("own_pkg.nets:seven_outputs", r"gives \(2, 7\) for 2 images, not \(2, 5\)"),
        ("own_pkg.nets:no_tensor", "cannot take images"),
        ("builtins:dict", r"torch\.nn\.Module|signature"),
    ],
)
def test_a_wrong_name_says_what_and_the_way_out(user_module: Path, name: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        build(name, num_classes=5, input_shape=(1, 2, 3) if name.startswith("own") else SHAPE, seed=0)
