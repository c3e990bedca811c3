"""ExecuTorch files: they equal PyTorch at any batch, int8 keeps zeros and agrees, bytes repeat, no image is inside."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.pruned import PRUNED, images, pruned, relative_error
from torch import Tensor, nn

from mobileprune.convert.harden import harden
from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export import TARGETS, ExportOptions, executorch
from mobileprune.export.lint import lint
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

pytest.importorskip("executorch")
pytestmark = pytest.mark.slow
SHAPE = (3, 6, 6)


def session(path: Path, shape: tuple[int, int, int] = SHAPE):
    return RUNTIMES["executorch"](path, RuntimeOptions(1, "input", shape))


def small() -> nn.Module:
    """A quarter of the weights, and one whole filter, are zeros; another filter is tiny."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)).eval()
    with torch.no_grad():
        for layer in (model[0], model[3]):
            layer.weight[torch.rand_like(layer.weight) < 0.25] = 0
            layer.weight[1] = 0
            layer.weight[2] *= 0.02
    return model


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``small()``, not to be changed."""
    path = tmp_path_factory.mktemp("int8") / "m.pte"
    executorch.write(small(), SHAPE, path, int8())
    return path


def int8(shape: tuple[int, int, int] = SHAPE) -> ExportOptions:
    return ExportOptions(precision="int8", calibration=torch.tensor(images(64, shape)))


@pytest.mark.parametrize("name", PRUNED)
def test_the_file_answers_as_the_pytorch_model_at_any_batch(tmp_path: Path, name: str) -> None:
    shape, path = PRUNED[name], tmp_path / "m.pte"
    storage = executorch.write(pruned(name), shape, path, ExportOptions())
    assert (storage.form, storage.sizes) == ("dense", {"dense": path.stat().st_size})
    lint(path)
    run = session(path, shape)
    for batch in (1, 2, 17, 256, 300, 1):
        x = images(batch, shape)
        assert relative_error(run(x), pruned(name)(torch.tensor(x)).detach().numpy()) < 1e-4


@pytest.mark.parametrize("name", ["lenet5", "resnet8"])
def test_int8_has_mostly_the_same_winners_in_less_than_half_the_bytes(tmp_path: Path, name: str) -> None:
    shape, path = PRUNED[name], tmp_path / "m.pte"
    executorch.write(pruned(name), shape, path, int8(shape))
    lint(path)
    dense_bytes = sum(4 * p.numel() for p in pruned(name).parameters())
    assert path.stat().st_size < 0.45 * dense_bytes
    run = session(path, shape)
    x = images(200, shape)
    expected = pruned(name)(torch.tensor(x)).detach().numpy()
    assert relative_error(run(x), expected) < 0.2
    assert (run(x).argmax(1) == expected.argmax(1)).mean() > 0.9
    np.testing.assert_array_equal(run(x[:17]), np.concatenate([run(x[i : i + 1]) for i in range(17)]))


def rows(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Weights as XNNPACK has them: channels last."""
    weight = layer.weight.detach() + 0
    return weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight


def test_zeros_are_kept_and_int8_is_symmetric_per_channel(tmp_path: Path, int8_file: Path) -> None:
    model, path = small(), tmp_path / "m.pte"
    executorch.write(model, SHAPE, path, ExportOptions())
    for layer in (model[0], model[3]):
        assert rows(layer).contiguous().numpy().tobytes() in path.read_bytes()
    content = int8_file.read_bytes()
    for layer in (model[0], model[3]):
        weight = rows(layer).flatten(1)
        step = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=executorch.SMALLEST_SCALE)
        expected = torch.round(weight / step).to(torch.int8)
        assert ((expected == 0) >= (weight == 0)).all()
        assert expected[2].abs().max() == 127
        assert expected.numpy().tobytes() in content
    x = images(17, SHAPE)
    assert relative_error(session(int8_file)(x), model(torch.tensor(x)).detach().numpy()) < 0.1


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_another_process_writes_the_same_bytes(tmp_path: Path, precision: str) -> None:
    """One that has exported nothing before, and hashes otherwise."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_executorch import *\n"
        "executorch.write(small(), SHAPE, Path(sys.argv[2]), int8() if sys.argv[3] == 'int8' else ExportOptions())\n"
    )
    support = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "other.pte"), precision]
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": support, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    executorch.write(pruned("lenet5"), PRUNED["lenet5"], tmp_path / "before.pte", ExportOptions())
    executorch.write(small(), SHAPE, tmp_path / "m.pte", int8() if precision == "int8" else ExportOptions())
    assert (tmp_path / "m.pte").read_bytes() == (tmp_path / "other.pte").read_bytes()


def test_no_calibration_image_is_in_the_file(int8_file: Path) -> None:
    content = int8_file.read_bytes()
    for image in images(64, SHAPE):
        assert image.tobytes()[:16] not in content
        assert np.moveaxis(image, 0, -1).tobytes()[:16] not in content


@pytest.mark.parametrize("spec", ["temperature:2", "round:2", "topk:2", "label-only"])
def test_int8_leaves_the_hardening_layer_in_float32(tmp_path: Path, int8_file: Path, spec: str) -> None:
    path, x = tmp_path / "m.pte", images(40, SHAPE)
    logits = torch.tensor(session(int8_file)(x))
    executorch.write(harden(small(), spec, 5), SHAPE, path, int8())
    expected = harden(nn.Identity(), spec, 5)(logits).numpy()
    np.testing.assert_allclose(session(path)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("calibration", [None, torch.zeros(0, *SHAPE)])
def test_int8_without_images_is_a_usage_error(tmp_path: Path, calibration: Tensor | None) -> None:
    with pytest.raises(UsageError, match="needs images"):
        executorch.write(small(), SHAPE, tmp_path / "m.pte", ExportOptions(precision="int8", calibration=calibration))
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_exported_is_an_error_with_the_reason(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    with pytest.raises(MobilepruneError, match=r"ExecuTorch cannot export this model: .*try --target onnx"):
        executorch.write(Branch(), SHAPE, tmp_path / "m.pte", ExportOptions())
    assert not list(tmp_path.iterdir())


def test_it_says_nothing_and_leaves_logging_and_the_model_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, x = small(), torch.tensor(images(3, SHAPE))
    before, disabled = model(x), logging.root.manager.disable
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        executorch.write(model, SHAPE, tmp_path / "m.pte", int8())
        session(tmp_path / "m.pte")
    assert [str(w.message) for w in caught] == []
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == disabled
    assert torch.equal(model(x), before)


def test_the_target_is_registered() -> None:
    target = TARGETS["executorch"]
    assert (target.file, target.write, target.precisions) == ("model.pte", executorch.write, ("fp32", "int8"))
