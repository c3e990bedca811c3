"""Models by name and by import path: shapes, the seed's reach, and what a wrong --model says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileprune.config import NORMS
from mobileprune.errors import UsageError
from mobileprune.files import sha256
from mobileprune.models import MODELS, build, code_digest, user

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

    def lazy():
        return nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))

    def scaled(num_classes, width_mult):
        width = int(4 * width_mult)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, width), nn.Linear(width, num_classes))

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


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_lenet5_is_the_literatures() -> None:
    assert parameters(build("lenet5", num_classes=10, input_shape=SHAPE, seed=0)) == 61_706
    assert parameters(build("lenet5", num_classes=10, input_shape=(1, 32, 32), seed=0)) == 61_706


@settings(max_examples=40)
@given(st.sampled_from([1, 3]), st.integers(12, 45), st.integers(12, 45), st.integers(2, 11))
def test_lenet5_takes_every_size_from_12(channels, height, width, num_classes):
    model = build("lenet5", num_classes=num_classes, input_shape=(channels, height, width), seed=0)
    assert model(torch.zeros(2, channels, height, width)).shape == (2, num_classes)


@pytest.mark.parametrize("size", [(11, 28), (28, 11), (1, 1), (40, 11)])
def test_lenet5_refuses_smaller_images(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"at least 12x12, got {size[0]}x{size[1]}"):
        build("lenet5", num_classes=10, input_shape=(1, *size), seed=0)


@pytest.mark.parametrize("name", [*MODELS, "torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5"])
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(name, num_classes=4, input_shape=SHAPE, seed=5)
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is untouched"
    torch.manual_seed(2)
    again, other = (build(name, num_classes=4, input_shape=SHAPE, seed=seed) for seed in (5, 6))
    assert equal(first, again)
    drawn = [(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True) if a.dim() > 1]
    assert drawn
    assert not any(torch.equal(a, b) for a, b in drawn)
    assert not any(module.training for module in first.modules())


@pytest.mark.parametrize("function", ["both", "classes_only", "neither", "Net"])
def test_user_functions_are_found_in_the_current_folder(user_module: Path, function: str) -> None:
    model = build(f"own_pkg.nets:{function}", num_classes=5, input_shape=(1, 2, 3), seed=0)
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    assert last.out_features == 5
    assert function != "both" or last.in_features == 6
    assert not model.training


@pytest.mark.parametrize("norm", NORMS)
def test_lazy_layers_are_drawn_from_the_seed_too_and_can_be_trained(user_module: Path, norm: str) -> None:
    state = torch.get_rng_state()
    first, again = (
        build("own_pkg.nets:lazy", num_classes=5, input_shape=(1, 2, 3), seed=3, norm=norm) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(first, again)
    first(torch.ones(2, 1, 2, 3)).sum().backward()


def test_a_user_function_gets_the_width_multiplier_if_it_takes_it(user_module: Path) -> None:
    for width_mult, features in ((1.0, 4), (0.5, 2)):
        model = build("own_pkg.nets:scaled", num_classes=5, input_shape=(1, 2, 3), seed=0, width_mult=width_mult)
        assert model[1].out_features == features


@pytest.mark.parametrize(
    "name", ["lenet5", "resnet8", "resnet18", "vgg16_bn", "torchvision:resnet18", "own_pkg.nets:both"]
)
def test_a_width_multiplier_that_would_have_no_effect_is_refused(user_module: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"--width-mult 0.5: {name} has no width multiplier; leave it out"):
        build(name, num_classes=5, input_shape=SHAPE, seed=0, width_mult=0.5)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown norm 'grup': did you mean 'group'"):
        build("lenet5", num_classes=5, input_shape=SHAPE, seed=0, norm="grup")


def test_a_users_code_is_known_by_its_file_and_a_packages_by_its_version(user_module: Path) -> None:
    file = user_module / "own_pkg" / "nets.py"
    assert code_digest("own_pkg.nets:both") == sha256(file)
    assert code_digest("lenet5") is code_digest("resnet20") is None
    torchvisions = ["mobilenetv2", "resnet18", "vgg16_bn", "torchvision:alexnet"]
    assert {code_digest(name) for name in torchvisions} == {f"torchvision {version('torchvision')}"}


def test_the_current_folder_is_on_the_path_for_the_users_code_alone(tmp_path: Path, monkeypatch) -> None:
    """Else torch takes a folder that is called like a package which it tries to import, such as z3, for it."""
    (tmp_path / "helper_of_own.py").write_text("SIZE = 6\n")
    (tmp_path / "own_module.py").write_text(
        "def net(num_classes):\n"
        "    import helper_of_own\n"
        "    from torch import nn\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(helper_of_own.SIZE, num_classes))\n"
    )
    (tmp_path / "absent_package").mkdir()
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    build("own_module:net", num_classes=5, input_shape=(1, 2, 3), seed=0)
    assert sys.path == path
    assert importlib.util.find_spec("absent_package") is None
    with user.importable_here(), user.importable_here():
        assert sys.path == [str(tmp_path), *path]
        assert importlib.util.find_spec("absent_package") is not None
    assert sys.path == path


@pytest.mark.slow
def test_a_user_function_may_import_torchvision_where_its_operators_are_missing(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def net(num_classes):\n"
        "    import torchvision\n"
        "    return torchvision.models.squeezenet1_1(num_classes=num_classes)\n"
    )
    code = "from mobileprune.models import build; build('own:net', num_classes=3, input_shape=(3, 32, 32), seed=0)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("lenet", "did you mean 'lenet5'"),
        ("resnet", r"did you mean 'resnet8'\? choose from lenet5, .*, package\.module:function, .*, torchvision:NAME"),
        ("mobilenet_v3_small", r"unknown model 'mobilenet_v3_small': did you mean 'torchvision:mobilenet_v3_small'\?"),
        ("own_pkg", r"unknown model 'own_pkg': choose from"),
        ("own_pkg.nets:absent", r"cannot import .*absent.*; write package\.module:function"),
        ("own_pkg.absent:f", "cannot import .*absent"),
        ("absent_pkg:f", "cannot import .*absent_pkg"),
        (":both", "cannot import"),
        ("own_pkg.nets:", "cannot import"),
        ("./own_pkg/nets.py:both", r"cannot import .*; write package\.module:function"),
        (".nets:both", "cannot import"),
        ("own_pkg.nets:CONSTANT", "CONSTANT is not a function"),
        ("own_pkg.nets:not_a_module", r"returned str; it must return a torch\.nn\.Module"),
        ("own_pkg.nets:needs_more", "'width'; it may take num_classes, input_shape, width_mult, nothing else"),
        ("own_pkg.nets:seven_outputs", r"gives \(2, 7\) for 2 images, not \(2, 5\)"),
        ("own_pkg.nets:no_tensor", "cannot take images"),
        ("builtins:dict", r"torch\.nn\.Module|signature"),
    ],
)
def test_a_wrong_name_says_what_and_the_way_out(user_module: Path, name: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        build(name, num_classes=5, input_shape=(1, 2, 3) if name.startswith("own") else SHAPE, seed=0)
