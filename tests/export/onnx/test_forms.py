"""Forms and precisions of real models: the same answers, zeros that stay zeros, and the sizes that are promised."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from support.lint import findings
from support.networks import CASES, made
from torch import Tensor, nn

from mobileprune.convert.fold_bn import fold_bn
from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export import ExportOptions, target
from mobileprune.export.onnx import convert, finish, write
from mobileprune.export.onnx.forms import FORMS, store
from mobileprune.export.onnx.precision import PRECISIONS
from mobileprune.export.target import Storage

pytestmark = pytest.mark.usefixtures("exporter_once")
INPUTS = 24
EVERY = [(precision, form) for precision in PRECISIONS for form in FORMS]


def pruned(name: str, sparsity: float = 0.9) -> tuple[nn.Module, tuple[int, int, int]]:
    model, shape = made(name)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.dim() > 1):
            weight *= weight.abs() > weight.abs().quantile(sparsity)
    return fold_bn(model), shape


@lru_cache
def converted(name: str, sparsity: float) -> onnx.ModelProto:
    return convert(*pruned(name, sparsity), 18)


@lru_cache
def inputs(name: str) -> Tensor:
    return torch.randn(INPUTS, *made(name)[1], generator=torch.Generator().manual_seed(1))


def exported(name: str, path: Path, precision: str, form: str, sparsity: float = 0.9) -> Storage:
    options = ExportOptions(precision=precision, sparse_format=form, calibration=inputs(name))
    return finish(converted(name, sparsity), path, options)


def answers(path: Path, x: Tensor, folded: str = "") -> NDArray[np.float32]:
    """Stock ONNX Runtime: nothing of mobileprune takes part."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = folded, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": x.numpy()})[0])


def weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """Of a dense file, with more than one dimension."""
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return {name: values for name, values in found.items() if values.ndim > 1}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_form_gives_the_same_answers_bit_for_bit(tmp_path: Path, name: str, precision: str) -> None:
    found, model, x = {}, pruned(name)[0], inputs(name)
    for form in FORMS:
        storage = exported(name, tmp_path / form, precision, form)
        found[form] = answers(tmp_path / form, x)
        assert storage.form == form
        assert storage.sizes[form] == (tmp_path / form).stat().st_size
        assert findings((tmp_path / form).read_bytes()) == []
    assert len({y.tobytes() for y in found.values()}) == 1
    expected = model(x).detach().numpy()
    limit = {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.1}[precision] * np.abs(expected).max()
    np.testing.assert_allclose(found["packed"], expected, rtol=0, atol=limit)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inference_sees_dense_weights_and_int8_operators(tmp_path: Path, precision: str) -> None:
    operators = {}
    for form in ("dense", "packed"):
        exported("lenet5", tmp_path / form, precision, form)
        answers(tmp_path / form, inputs("lenet5"), str(tmp_path / "folded"))
        operators[form] = Counter(node.op_type for node in onnx.load(tmp_path / "folded").graph.node)
    assert operators["packed"] == operators["dense"]
    assert (operators["dense"]["QLinearConv"] == 2) == (precision == "int8")
    assert (operators["dense"]["QGemm"] == 3) == (precision == "int8")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_zeros_stay_zeros_and_int8_uses_the_whole_range(tmp_path: Path, precision: str) -> None:
    exported("lenet5", tmp_path / "a", "fp32", "dense")
    exported("lenet5", tmp_path / "b", precision, "dense")
    suffix = {"fp16": ".half", "int8": "_quantized"}[precision]
    before, after = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert {f"{name}{suffix}" for name in before} == after.keys()
    for name, values in before.items():
        few = after[name + suffix]
        assert not few[values == 0].any()
        assert few.dtype == {"fp16": np.float16, "int8": np.int8}[precision]
        if precision == "int8":
            largest = np.abs(few.astype(int)).reshape(len(few), -1).max(1)
            assert set(largest[np.abs(values).reshape(len(values), -1).max(1) > 0]) == {127}


def test_auto_takes_the_smallest_and_says_why(tmp_path: Path) -> None:
    sparse = exported("lenet5", tmp_path / "m", "fp32", "auto")
    assert sparse.form == "packed"
    assert sparse.sizes["packed"] < sparse.sizes["coo"] < sparse.sizes["dense"] / 3
    assert "bit-identical" in sparse.why
    assert sparse.bound_bytes < sparse.weight_bytes < sparse.sizes["packed"]
    dense = exported("dropout", tmp_path / "m", "fp32", "auto", sparsity=0.0)
    assert dense.form == "dense"
    half = exported("lenet5", tmp_path / "m", "fp32", "coo", sparsity=0.5)
    assert half.sizes["coo"] == half.sizes["dense"], "a tensor that would grow stays dense"


def test_packed_int8_weights_come_close_to_their_entropy(tmp_path: Path) -> None:
    storage = exported("lenet5", tmp_path / "m", "int8", "auto")
    assert storage.bound_bytes <= storage.weight_bytes <= 1.15 * storage.bound_bytes
    fp32 = exported("lenet5", tmp_path / "m", "fp32", "dense").sizes["dense"]
    assert storage.sizes["packed"] < fp32 / 12


@pytest.mark.parametrize(("precision", "form"), EVERY)
def test_a_second_export_gives_the_same_bytes(tmp_path: Path, precision: str, form: str) -> None:
    exported("residual", tmp_path / "a", precision, form)
    exported("residual", tmp_path / "b", precision, form)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_calibration_image_is_in_the_file(tmp_path: Path) -> None:
    exported("dropout", tmp_path / "m", "int8", "dense")
    content, shape = (tmp_path / "m").read_bytes(), tuple(inputs("dropout").shape[1:])
    assert not any(image.numpy().tobytes() in content for image in inputs("dropout"))
    shapes = [tuple(t.dims) for t in onnx.load(tmp_path / "m").graph.initializer]
    assert not any(len(s) == 4 and s[1:] == shape for s in shapes)


def test_bad_requests_say_what_to_do(tmp_path: Path) -> None:
    model, shape = pruned("dropout")
    with pytest.raises(UsageError, match="needs images"):
        write(model, shape, tmp_path / "m", ExportOptions(precision="int8"))
    with torch.no_grad():
        model[2].weight[0, 0] = 1e5
    with pytest.raises(MobilepruneError, match="65504; use --precision fp32"):
        write(model, shape, tmp_path / "m", ExportOptions(precision="fp16"))
    with pytest.raises(UsageError, match="--precision int4: target onnx has fp32, fp16, int8"):
        target("onnx").check("int4", "auto")
    with pytest.raises(UsageError, match="--sparse-format csr: target onnx has auto, dense, coo, packed"):
        target("onnx").check("fp32", "csr")


def test_a_form_that_changes_the_answers_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = converted("lenet5", 0.9)

    def rounded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        first = max(made.graph.initializer, key=lambda t: len(t.raw_data))
        first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * np.float32(1.001), first.name))
        return made, 0

    monkeypatch.setitem(FORMS, "packed", rounded)
    assert "not packed: its answers differ" in store(proto, "auto")[1].why
    with pytest.raises(MobilepruneError, match="changes what the file computes"):
        store(proto, "packed")


@pytest.mark.parametrize("form", FORMS)
def test_scalars_and_tensors_of_zeros_take_every_form(tmp_path: Path, form: str) -> None:
    """ReLU6 brings a scalar 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(32, 40)).eval()
    torch.nn.init.zeros_(model[3].weight)
    x = torch.randn(3, 2, 4, 4)
    write(model, (2, 4, 4), tmp_path / "m", ExportOptions(sparse_format=form))
    np.testing.assert_allclose(answers(tmp_path / "m", x), model(x).detach(), atol=1e-6)
