"""Packed TorchScript-lite files: the same answers in fewer bytes, weights expanded once; float16 and int8 ones."""

from __future__ import annotations

import io
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lint import findings
from support.networks import CASES, Shape, made
from torch import Tensor, nn
from torch.jit.mobile import _get_model_bytecode_version, _load_for_lite_interpreter

from mobileprune.convert.harden import harden
from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.target import Storage
from mobileprune.export.torchscript_lite import BYTECODE_VERSIONS, freeze, write
from mobileprune.export.torchscript_lite.graph import expanding
from mobileprune.export.torchscript_lite.int8 import engine, int8
from mobileprune.export.torchscript_lite.packed import Array, stored
from mobileprune.export.torchscript_lite.unpack import expand
from mobileprune.runtimes.base import RuntimeOptions
from mobileprune.runtimes.torchscript_lite import open_session

pytestmark = pytest.mark.filterwarnings(
    "ignore:Lite Interpreter is deprecated:DeprecationWarning",
    "ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning",
)
PRECISIONS = ("fp32", "fp16", "int8")


def pruned(name: str, share: float = 0.9) -> tuple[nn.Module, Shape]:
    model, shape = made(name)
    with torch.no_grad():
        for p in (p for p in model.parameters() if p.dim() > 1):
            p[p.abs() < p.abs().flatten().quantile(share)] *= 0.0  # of both signs
    return model, shape


def exported(
    file: Path, model: nn.Module, shape: Shape, x: Tensor, **options: object
) -> tuple[Storage, Tensor, Tensor]:
    """How the file keeps its weights, and its answers in the first and the second call."""
    wanted = ExportOptions(calibration=torch.randn(64, *shape), **options)  # type: ignore[arg-type]
    storage = write(model, shape, file, wanted)
    with engine() if wanted.precision == "int8" else nullcontext(), torch.inference_mode():
        runs = _load_for_lite_interpreter(str(file))
        return storage, runs(x), runs(x)


@st.composite
def tensors(draw: st.DrawFn) -> list[Array]:
    made = []
    kinds = draw(st.lists(st.sampled_from(["e", "b", "f"]), max_size=5))
    for kind in sorted(kinds):  # b, e, f: float16 before float32
        shape = draw(st.sampled_from([(1,), (0, 3), (300,), (7, 3, 2, 1), (2, 500)]))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        values = rng.normal(0, draw(st.sampled_from([2.0, 60.0])), shape).round(1).clip(-127, 127)
        made.append((values * (rng.uniform(size=shape) < draw(st.sampled_from([0, 0.02, 0.3, 1])))).astype(kind) + 0)
    return [array.astype(kind) for array, kind in zip(made, sorted(kinds), strict=True)]


@settings(max_examples=60)
@given(tensors(), st.booleans())
def test_expanded_tensors_are_those_that_were_stored(arrays: list[Array], sparse: bool) -> None:
    arrays = [*arrays, np.ones(3, np.float32)]
    kept = stored(arrays, sparse=sparse)
    for tensor, array in zip(expand(kept.packed, kept.sizes, kept.counts, kept.layouts), arrays, strict=True):
        expected = array if array.dtype == np.int8 else array.astype(np.float32)
        assert tensor.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(tensor.numpy(), expected)
    assert kept.num_bytes == sum(kept.sizes) + sum(part.nbytes for part in kept.packed[1:])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CASES)
def test_a_packed_file_answers_bit_for_bit_as_the_dense_one(tmp_path: Path, name: str, precision: str) -> None:
    model, shape = pruned(name)
    x = torch.randn(5, *shape)
    answers, sizes = {}, {}
    for form in ("dense", "packed"):
        file = tmp_path / f"{form}.ptl"
        torch.manual_seed(0)
        storage, first, second = exported(file, model, shape, x, precision=precision, sparse_format=form)
        assert (storage.form, storage.sizes[form]) == (form, file.stat().st_size)
        assert storage.bound_bytes is not None
        assert storage.weight_bytes is not None
        assert storage.bound_bytes <= storage.weight_bytes <= file.stat().st_size
        assert torch.equal(first, second)
        assert findings(file.read_bytes()) == []
        answers[form], sizes[form] = first, storage.weight_bytes
    assert torch.equal(answers["dense"], answers["packed"])
    assert sizes["packed"] < 0.4 * sizes["dense"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("version", BYTECODE_VERSIONS)
def test_packed_files_of_every_bytecode_version_run(tmp_path: Path, version: int, precision: str) -> None:
    model, shape = pruned("residual")
    x = torch.randn(3, *shape)
    options = {"precision": precision, "sparse_format": "packed", "bytecode_version": version}
    _, first, second = exported(tmp_path / "m.ptl", model, shape, x, **options)
    assert _get_model_bytecode_version(str(tmp_path / "m.ptl")) == version
    np.testing.assert_allclose(first, model(x).detach(), atol={"fp32": 1e-5, "fp16": 1e-3, "int8": 0.1}[precision])
    assert torch.equal(first, second)


@pytest.mark.parametrize(("share", "form"), [(0.9, "packed"), (0.0, "dense")])
def test_auto_takes_the_smaller_file_and_says_why(tmp_path: Path, share: float, form: str) -> None:
    model, shape = pruned("lenet5", share) if share else made("dropout")
    storage = write(model, shape, tmp_path / "m.ptl", ExportOptions())
    assert storage.form == min(storage.sizes, key=lambda name: storage.sizes[name]) == form
    assert (tmp_path / "m.ptl").stat().st_size == storage.sizes[form]
    assert storage.why == "the smallest of dense, packed with bit-identical answers"


def test_weights_are_expanded_in_the_first_call_and_kept(tmp_path: Path) -> None:
    model, shape = pruned("lenet5")
    module, kept = expanding(freeze(model, shape), half=False, sparse=True)
    assert (len(module.packed), len(module.weights)) == (2, 0)
    x = torch.randn(2, *shape)
    first = module(x)
    weights = [weight.data_ptr() for weight in module.weights]
    assert (len(module.packed), len(weights)) == (0, len(kept.layouts))
    assert torch.equal(module(x), first)
    assert [weight.data_ptr() for weight in module.weights] == weights
    np.testing.assert_allclose(first, model(x).detach(), atol=1e-6)


def test_a_packed_file_passes_the_runtimes_checks(tmp_path: Path) -> None:
    model, shape = pruned("residual")
    file = tmp_path / "m.ptl"
    write(model, shape, file, ExportOptions(sparse_format="packed"))
    x = torch.randn(2, *shape)
    session = open_session(file, RuntimeOptions(num_threads=1, input_name="input", input_shape=shape))
    np.testing.assert_allclose(session(x.numpy()), model(x).detach(), atol=1e-5)


@pytest.mark.parametrize("form", ["dense", "packed"])
def test_fp16_computes_in_float32_with_weights_rounded_to_float16(tmp_path: Path, form: str) -> None:
    model, shape = pruned("dropout")
    x = torch.randn(4, *shape)
    _, answer, _ = exported(tmp_path / "m.ptl", model, shape, x, precision="fp16", sparse_format=form)
    assert not torch.equal(answer, model(x))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half().float() if p.numel() >= 64 else p)
    assert torch.equal(answer, model(x))


def test_fp16_refuses_weights_that_it_cannot_hold(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    nn.init.constant_(model[1].weight, 1e5)
    with pytest.raises(MobilepruneError, match="a tensor holds 1e\\+05, float16 ends at 65504; use --precision fp32"):
        write(model, (3, 4, 4), tmp_path / "m.ptl", ExportOptions(precision="fp16"))


@pytest.mark.parametrize("calibration", [None, torch.zeros(0, 3, 4, 4)])
def test_int8_needs_images(tmp_path: Path, calibration: Tensor | None) -> None:
    model, shape = made("dropout")
    with pytest.raises(UsageError, match="--precision int8 needs images"):
        write(model, shape, tmp_path / "m.ptl", ExportOptions(precision="int8", calibration=calibration))


@pytest.mark.parametrize("clamp", [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(-1, 2)])
def test_int8_is_right_with_clamps_behind_a_convolution(tmp_path: Path, clamp: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), clamp, nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 5)
    ).eval()
    with torch.no_grad():
        model[0].weight *= 8  # so that 6 is passed
    x = torch.randn(32, 3, 8, 8)
    expected = model(x).detach()
    for form in ("dense", "packed"):
        _, answer, _ = exported(tmp_path / "m.ptl", model, (3, 8, 8), x, precision="int8", sparse_format=form)
        assert (answer - expected).abs().max() < 0.03 * expected.abs().max()


def test_int8_keeps_zeros() -> None:
    model, shape = pruned("dropout")
    with engine():
        layers = [m for m in int8(model, torch.randn(8, *shape)).modules() if hasattr(m, "_packed_params")]
    weights = [m.weight().int_repr() for m in layers if callable(getattr(m, "weight", None))]
    assert len(weights) == 2
    for weight, layer in zip(weights, (model[2], model[5]), strict=True):
        assert ((weight == 0) | (layer.weight != 0)).all()
        assert set(weight.abs().amax(1).tolist()) <= {0, 127}


def test_int8_leaves_hardening_to_float32(tmp_path: Path) -> None:
    model, shape = pruned("residual")
    x = torch.randn(16, *shape)
    hardened = harden(model, "round:2", 5)
    _, answer, _ = exported(tmp_path / "m.ptl", hardened, shape, x, precision="int8", sparse_format="packed")
    assert (answer.argmax(1) == model(x).argmax(1)).float().mean() > 0.8
    values = torch.unique(torch.exp(answer) * 100)
    np.testing.assert_allclose(values, values.round(), atol=1e-3)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.fc(x.flatten(1)) + 0 * self.calls


def test_a_model_that_changes_itself_stays_dense_and_the_reason_is_told(tmp_path: Path) -> None:
    file = tmp_path / "m.ptl"
    storage = write(Counting(), (3, 4, 4), file, ExportOptions())
    assert storage.form == "dense"
    assert "not packed: the model changes buffers of its own" in storage.why
    for options in (ExportOptions(sparse_format="packed"), ExportOptions(precision="fp16")):
        with pytest.raises(MobilepruneError, match="changes buffers of its own"):
            write(Counting(), (3, 4, 4), file, options)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_model_gives_the_same_bytes_whatever_was_exported_before(tmp_path: Path, precision: str) -> None:
    model, shape = pruned("residual")
    contents = set()
    for other in ("lenet5", "dropout"):
        write(*pruned(other), tmp_path / "other.ptl", ExportOptions(sparse_format="packed"))
        torch.manual_seed(0)
        exported(tmp_path / "m.ptl", model, shape, torch.zeros(1, *shape), precision=precision, sparse_format="packed")
        contents.add((tmp_path / "m.ptl").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("version", BYTECODE_VERSIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_weight_is_in_a_file_twice(tmp_path: Path, version: int, precision: str) -> None:
    model, shape = made("lenet5")
    options = {"precision": precision, "sparse_format": "dense", "bytecode_version": version}
    storage, *_ = exported(tmp_path / "m.ptl", model, shape, torch.zeros(1, *shape), **options)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "m.ptl").read_bytes())) as archive:
        stored_bytes = sum(info.file_size for info in archive.infolist() if not info.filename.endswith(".pkl"))
    assert storage.weight_bytes is not None
    assert storage.weight_bytes <= stored_bytes < 1.1 * storage.weight_bytes


def test_the_target_says_what_it_has() -> None:
    target = TARGETS["torchscript-lite"]
    assert (target.precisions, target.forms) == (PRECISIONS, ("dense", "packed"))
