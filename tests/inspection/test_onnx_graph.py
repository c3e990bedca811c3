"""Zeros, bytes and multiplications of ONNX files: of every form and precision, and of graphs that others make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from torch import nn

from mobileprune.errors import ArtifactError
from mobileprune.export import ExportOptions
from mobileprune.export.onnx import convert, strip
from mobileprune.export.onnx.forms import FORMS, store
from mobileprune.export.onnx.precision import PRECISIONS
from mobileprune.inspection.case import layers_of
from mobileprune.inspection.contents import Contents, Layer
from mobileprune.inspection.onnx_graph import OPEN
from mobileprune.inspection.readers import contents_of

SHAPE = (3, 16, 16)
EXPECTED = {"0.weight": (16, 3, 3, 3), "2.weight": (32, 8, 3, 3), "5.weight": (10, 32 * 49)}
HEAD = '<ir_version: 10, opset_import: ["": 18]>'


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """16 x 8 x 8, then a grouped convolution to 32 x 7 x 7, then 10; nine of ten weights are zero, and one channel."""
    torch.manual_seed(0)
    conv, grouped = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, padding=1, groups=2)
    made = nn.Sequential(conv, nn.ReLU(), grouped, nn.AvgPool2d(2, stride=1), nn.Flatten(), nn.Linear(32 * 49, 10))
    with torch.no_grad():
        for name in EXPECTED:
            weight = made.get_parameter(name)
            weight *= torch.rand_like(weight) < 0.1
        made.get_parameter("2.weight")[3] = 0
    return made.eval()


@pytest.fixture(scope="module")
def proto(model) -> onnx.ModelProto:
    return convert(model, SHAPE, 18)


@pytest.fixture(scope="module", params=PRECISIONS)
def precise(request, proto) -> tuple[str, onnx.ModelProto]:
    x = torch.randn(32, *SHAPE, generator=torch.manual_seed(0))
    return request.param, strip(PRECISIONS[request.param](proto, ExportOptions(calibration=x)))


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_is_the_same_in_every_form_and_precision(model, precise, form, tmp_path) -> None:
    precision, proto = precise
    content, storage = store(proto, form)
    (tmp_path / "model.onnx").write_bytes(content)
    found = contents_of(tmp_path / "model.onnx")
    assert {layer.name: layer.shape for layer in found.layers} == EXPECTED
    positions = {"0.weight": 64, "2.weight": 64, "5.weight": 1}
    for layer in found.layers:
        weight = model.get_parameter(layer.name).detach()
        lost = 0 if precision == "fp32" else 0.02 * weight.numel()  # what rounding makes zero
        zeros = weight.numel() - int(weight.count_nonzero())
        assert zeros <= layer.zeros <= zeros + lost
        assert layer.zero_channels is not None
        assert layer.zero_channels >= int((~weight.flatten(1).any(1)).sum())
        assert layer.macs == weight.numel() * positions[layer.name]
        assert layer.zero_macs == layer.zeros * positions[layer.name]
        assert layer.bound_bytes is not None
        assert layer.stored_bytes is not None
        assert layer.bound_bytes < layer.stored_bytes
    assert found.macs == sum(layer.macs or 0 for layer in found.layers)
    assert found.operators is not None
    assert not {"Cast", "QuantizeBias", "UnpackRiceFloat"} & found.operators.keys()
    assert found.operators["Conv"] == 2
    assert found.notes == ()
    if precision == "fp32":
        biases, shapes = 4 * (16 + 32 + 10), 8 * (4 + 4 + 2) * (form == "packed")  # a packed tensor knows its shape
        stored = sum(layer.stored_bytes or 0 for layer in found.layers)
        assert storage.weight_bytes == stored + biases - shapes


def test_multiplications_are_those_that_pytorch_counts(model, proto, tmp_path) -> None:
    onnx.save(proto, tmp_path / "model.onnx")
    found, counted = contents_of(tmp_path / "model.onnx"), layers_of(model, torch.zeros(2, *SHAPE))
    assert found.macs == counted.macs
    assert [(x.name, x.shape, x.zeros, x.zero_channels, x.macs) for x in found.layers] == [
        (x.name, x.shape, x.zeros, x.zero_channels, x.macs) for x in counted.layers
    ]


def written(text: str, path: Path, **weights: np.ndarray) -> Path:
    """A model of the textual form of ONNX, with initializers."""
    made = parser.parse_model(text)
    made.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    onnx.save(made, path / "model.onnx")
    return path / "model.onnx"


def test_a_weight_used_twice_counts_once_and_costs_twice(tmp_path) -> None:
    graph = "g (float[N, 4] x) => (float[N, 4] y) { a = MatMul (x, w) y = MatMul (a, w) }"
    w = np.eye(4, dtype=np.float32)
    (layer,) = contents_of(written(HEAD + graph, tmp_path, w=w)).layers
    assert layer == Layer("w", (4, 4), 12, 0, 32, 64, layer.bound_bytes)


RANDOM = {
    "RandomNormal": "w = RandomNormal <shape = [4, 4]> ()",
    "RandomUniform": "w = RandomUniform <shape = [4, 4]> ()",
    "RandomNormalLike": "w = RandomNormalLike (c)",
    "RandomUniformLike": "w = RandomUniformLike (c)",
    "Bernoulli": "w = Bernoulli (c)",
    "Multinomial": "k = Multinomial <sample_size = 4> (c) w = Cast <to = 1> (k)",
    "Dropout": "w = Dropout (c, half, on)",
    "a function": "w = mobileprune.Noise (c)",
}
NOISE = '<domain: "mobileprune", opset_import: ["": 18]> Noise (c) => (w) { w = Bernoulli (c) }'


@pytest.mark.parametrize("operator", RANDOM)
def test_what_chance_makes_is_no_weight(tmp_path, operator) -> None:
    """The product of two 4 x 4 counts, as that of any two values of the graph."""
    head = HEAD.replace("]>", ', "mobileprune": 1]>')
    graph = f"g (float[4, 4] x) => (float[4, 4] y) {{ {RANDOM[operator]} y = MatMul (x, w) }}"
    given = {"c": np.full((4, 4), 0.5, np.float32), "half": np.float32(0.5), "on": np.bool_(True)}
    found = contents_of(written(head + graph + NOISE, tmp_path, **given))
    assert (found.layers, found.macs) == ((), 4 * 4)


@pytest.mark.parametrize("mode", ["", ", , off", ", half, off", ", half, constant"])
def test_a_dropout_that_does_not_train_changes_no_weight(tmp_path, mode) -> None:
    made = "constant = Constant <value = bool {0}> ()"
    graph = f"g (float[N, 4] x) => (float[N, 4] y) {{ {made} w = Dropout (c{mode}) y = MatMul (x, w) }}"
    given = {"c": np.eye(4, dtype=np.float32), "half": np.float32(0.5), "off": np.bool_(False)}
    (layer,) = contents_of(written(HEAD + graph, tmp_path, **given)).layers
    assert (layer.name, layer.zeros) == ("c", 12)


def test_products_without_weights_count(tmp_path) -> None:
    """Attention: (2 x 3) times (3 x 2), of 3 numbers each."""
    graph = "g (float[1, 2, 3] x) => (float[1, 2, 2] y) { t = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, t) }"
    assert contents_of(written(HEAD + graph, tmp_path)) == Contents((), {"MatMul": 1, "Transpose": 1}, 12)


def test_a_fixed_batch_is_divided_by(tmp_path) -> None:
    graph = "g (float[8, 4] x) => (float[8, 2] y) { y = Gemm (x, w) }"
    found = contents_of(written(HEAD + graph, tmp_path, w=np.array([[0, 1]] * 4, np.float32)))
    assert (found.macs, found.zero_macs, found.layers[0].zero_channels) == (8, 4, 1)


def test_zeros_of_an_integer_weight_are_its_zero_point(tmp_path) -> None:
    graph = "g (uint8[1, 1, 2, 2] x) => (int32[1, 2, 2, 2] y) { y = ConvInteger (x, w, , z) }"
    w = np.array([128, 7], np.uint8).reshape(2, 1, 1, 1)
    (layer,) = contents_of(written(HEAD + graph, tmp_path, w=w, z=np.uint8(128))).layers
    assert layer == Layer("w", (2, 1, 1, 1), 1, 1, 8, 2, None)


def test_a_function_of_somebody_else_is_seen_through(tmp_path) -> None:
    text = """<ir_version: 10, opset_import: ["": 18, "them": 1]>
        g (float[N, 4] x) => (float[N, 2] y) { y = them.Layer (x, w) }
        <domain: "them", opset_import: ["": 18]> Layer (x, w) => (y) { a = MatMul (x, w) y = Relu (a) }"""
    found = contents_of(written(text, tmp_path, w=np.ones((4, 2), np.float32)))
    assert (found.operators, found.macs) == ({"MatMul": 1, "Relu": 1}, 8)


def test_images_of_open_size_are_not_counted_and_it_says_so(tmp_path) -> None:
    graph = "g (float[N, 1, H, W] x) => (float[N, 2, A, B] y) { y = Conv (x, w) }"
    path = written(HEAD + graph, tmp_path, w=np.ones((2, 1, 3, 3), np.float32))
    found = contents_of(path)
    assert (found.macs, found.layers[0].macs, found.layers[0].zeros, found.notes) == (None, None, 0, (OPEN,))
    assert contents_of(path, (1, 5, 5)).macs == 2 * 9 * 9


def test_what_is_not_counted_is_named(tmp_path) -> None:
    graph = 'g (float[N, 4] x) => (float[N, 2] y) { y = Einsum <equation = "ni,ij->nj"> (x, w) }'
    found = contents_of(written(HEAD + graph, tmp_path, w=np.ones((4, 2), np.float32)))
    assert (found.macs, found.notes) == (0, ("not counted in MACs: Einsum",))


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "refused"])
def test_a_file_that_is_none_is_an_artifact_error(tmp_path, damage) -> None:
    path = written(HEAD + "g (float[N, 4] x) => (float[N, 2] y) { y = MatMul (x, w) }", tmp_path, w=np.ones((5, 2)))
    content = {"truncated": path.read_bytes()[:-9], "text": b"not a model", "empty": b"", "refused": path.read_bytes()}
    path.write_bytes(content[damage])
    with pytest.raises(ArtifactError, match=r"model\.onnx: c"):
        contents_of(path)
