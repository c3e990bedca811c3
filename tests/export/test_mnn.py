"""MNN files of pruned networks: they equal PyTorch, sparse ones are smaller, int8 keeps zeros, bytes repeat."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.lint import findings
from support.pruned import PRUNED, images, pruned, relative_error
from torch import Tensor, nn

from mobileprune.errors import MobilepruneError
from mobileprune.export import TARGETS, ExportOptions, converter, mnn
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

# MNN itself would print when it is imported, and its tools must never be.
pytestmark = [
    pytest.mark.skipif(converter.find_spec("MNN") is None, reason="MNN is not installed"),
    pytest.mark.slow,
]


def session(path: Path, shape: tuple[int, int, int]):
    return RUNTIMES["mnn"](path, RuntimeOptions(1, "input", shape))


def rounded(model: nn.Module) -> nn.Module:
    """Weights as int8 holds them: q s, s = max |w| / 127 for each output channel."""
    made = copy.deepcopy(model)
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            w = layer.weight.detach()
            step = (w.abs().flatten(1).amax(1) / 127).clamp(min=1e-30).reshape(-1, *[1] * (w.dim() - 1))
            layer.weight.data = (w / step).round() * step
    return made


@pytest.mark.parametrize("name", PRUNED)
def test_both_forms_answer_as_the_pytorch_model_at_any_batch(tmp_path: Path, name: str) -> None:
    sizes = {}
    for form in ("dense", "auto"):
        path = tmp_path / f"{form}.mnn"
        storage = mnn.write(pruned(name), PRUNED[name], path, ExportOptions(sparse_format=form))
        sizes[storage.form] = path.stat().st_size
        assert storage.sizes[storage.form] == path.stat().st_size
        assert findings(path.read_bytes()) == []
        run = session(path, PRUNED[name])
        for batch in (1, 2, 17, 1):
            x = images(batch, PRUNED[name])
            assert relative_error(run(x), pruned(name)(torch.tensor(x)).detach().numpy()) < 1e-4
    assert sizes["sparse"] < 0.25 * sizes["dense"]


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_int8_is_symmetric_so_that_zeros_stay_zeros(tmp_path: Path, form: str) -> None:
    path, shape = tmp_path / "m.mnn", PRUNED["resnet8"]
    mnn.write(pruned("resnet8"), shape, path, ExportOptions(precision="int8", sparse_format=form))
    x = images(5, shape)
    assert relative_error(session(path, shape)(x), rounded(pruned("resnet8"))(torch.tensor(x)).detach().numpy()) < 1e-4


def test_bytes_repeat_although_mnn_draws_a_uuid(tmp_path: Path) -> None:
    for path in (tmp_path / "a.mnn", tmp_path / "b.mnn"):
        mnn.write(pruned("lenet5"), PRUNED["lenet5"], path, ExportOptions())
    assert (tmp_path / "a.mnn").read_bytes() == (tmp_path / "b.mnn").read_bytes()


def test_an_operator_that_mnn_lacks_is_an_error(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.bitwise_xor(x.flatten(1).int(), torch.tensor(3)).float()

    with pytest.raises(MobilepruneError, match="MNN cannot convert this model"):
        mnn.write(Odd(), (1, 4, 4), tmp_path / "m.mnn", ExportOptions())
    assert not list(tmp_path.iterdir())


def test_the_target_is_registered() -> None:
    target = TARGETS["mnn"]
    assert (target.file, target.write, target.precisions) == ("model.mnn", mnn.write, ("fp32", "int8"))
