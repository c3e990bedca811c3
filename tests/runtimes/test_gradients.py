"""Gradients read from the file against plain autograd on the network that it was made of, one example at a time."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser
from support.coupled import build as coupled
from support.networks import made
from support.pruned import pruned
from support.runtimes import MANIFEST
from torch import nn
from torch.nn import functional as F

from mobileprune.artifact import Artifact
from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.half import halved
from mobileprune.convert.harden import head
from mobileprune.errors import ArtifactError, DataError, UsageError
from mobileprune.export.onnx import convert, finish
from mobileprune.export.target import ExportOptions
from mobileprune.lazy import Lazy
from mobileprune.runtimes import gradients
from mobileprune.runtimes.gradients import gradient_norms, layers
from mobileprune.runtimes.gradients.backward import residual
from mobileprune.runtimes.gradients.graph import Use
from mobileprune.runtimes.gradients.node import Node
from mobileprune.runtimes.gradients.operators import OPERATORS

Shape = tuple[int, int, int]
MEAN, STD = 0.4, 0.6


def artifact(folder: Path, content: bytes, shape: Shape, classes: int) -> Artifact:
    (folder / "model.onnx").write_bytes(content)
    changes = {"file": "model.onnx", "sha256": hashlib.sha256(content).hexdigest(), "input_shape": shape}
    manifest = replace(MANIFEST, **changes, num_classes=classes, mean=(MEAN,) * shape[0], std=(STD,) * shape[0])
    return Artifact(folder, manifest)


def exported(model: nn.Module, shape: Shape, folder: Path, form: str = "dense", precision: str = "fp32") -> Artifact:
    return stored(convert(model, shape, 18), shape, folder, form, precision)


def stored(proto: onnx.ModelProto, shape: Shape, folder: Path, form: str, precision: str) -> Artifact:
    calibration = (torch.from_numpy(examples(shape, 64)[0]) - MEAN) / STD
    path, copy = folder / "written.onnx", onnx.ModelProto()
    copy.CopyFrom(proto)
    finish(copy, path, ExportOptions(precision=precision, sparse_format=form, calibration=calibration))
    classes = proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return artifact(folder, path.read_bytes(), shape, classes)


@cache
def network(name: str) -> tuple[nn.Module, Shape, onnx.ModelProto]:
    """Without batch norm, two thirds of the weights 0, and as ONNX: converting is what takes long."""
    model, shape = made(name)
    model = cut(fold_bn(model))
    return model, shape, convert(model, shape, 18)


def examples(shape: Shape, count: int, classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return rng.uniform(size=(count, *shape)).astype(np.float32), rng.integers(0, classes, count)


def cut(model: nn.Module) -> nn.Module:
    """Two thirds of the weights of each layer set to zero."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            size = layer.weight.detach().abs()
            layer.weight.data[size <= size.flatten().kthvalue(max(1, 2 * size.numel() // 3)).values] = 0
    return model


def slow(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """One example at a time, in float64."""
    model = model.double().eval()
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    found = []
    for image, label in zip(x, y, strict=True):
        logits = model((torch.from_numpy(image[None]).double() - MEAN) / STD)
        found_here = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([label])), weights)
        parts = [(g * (w != 0)).norm() for g, w in zip(found_here, weights, strict=True)]
        parts += [(g * (w == 0)).norm() for g, w in zip(found_here, weights, strict=True)]
        found.append(torch.stack(parts).numpy())
    model.float()
    return np.stack(found)


@pytest.mark.parametrize("form", ["dense", "coo", "packed"])
@pytest.mark.parametrize("name", ["lenet5", "residual"])
def test_each_form_gives_the_gradients_of_the_network(name: str, form: str, tmp_path: Path) -> None:
    model, shape, proto = network(name)
    x, y = examples(shape, 5)
    file, lazy = stored(proto, shape, tmp_path, form, "fp32"), Lazy(np.arange(5), x.__getitem__, shape)
    got = gradient_norms(file, x, y)
    np.testing.assert_allclose(gradient_norms(file, lazy, y, 2), got, rtol=1e-4)
    expected = slow(model, x, y)
    assert got.dtype == np.float64
    assert (expected > 0).all(), "both parts of every layer have a gradient"
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("form", ["dense", "packed"])
def test_float16_gives_the_gradients_of_the_rounded_network(form: str, tmp_path: Path) -> None:
    model, shape, proto = network("lenet5")
    x, y = examples(shape, 4)
    got = gradient_norms(stored(proto, shape, tmp_path, form, "fp16"), x, y)
    twin = deepcopy(model)
    for parameter in twin.parameters():
        parameter.data = torch.from_numpy(halved(parameter.detach().numpy()).astype(np.float32))
    np.testing.assert_allclose(got, slow(twin, x, y), rtol=1e-4)


@pytest.mark.parametrize("form", ["dense", "packed"])
def test_int8_is_near_the_network_with_rounded_weights(form: str, tmp_path: Path) -> None:
    model, shape, proto = network("lenet5")
    x, y = examples(shape, 24)
    got = gradient_norms(stored(proto, shape, tmp_path, form, "int8"), x, y)
    twin = deepcopy(model)
    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            rows = layer.weight.detach().flatten(1)
            scale = rows.abs().amax(1, keepdim=True) / 127
            layer.weight.data = (torch.round(rows / scale) * scale).view_as(layer.weight)
    expected = slow(twin, x, y)
    assert np.median(np.abs(got / expected - 1)) < 0.02, "activations are rounded too"
    assert np.abs(got / expected - 1).max() < 0.3


@pytest.mark.long
@pytest.mark.parametrize(("name", "off"), [("resnet8", 0.1), ("mobilenetv2", 0.3)])  # rounded activations add up
def test_our_networks(name: str, off: float, tmp_path: Path) -> None:
    model, shape = pruned(name), (3, 32, 32)
    proto = convert(model, shape, 18)
    x, y = examples(shape, 2, 10)
    got = gradient_norms(stored(proto, shape, tmp_path, "coo", "fp32"), x, y)
    expected = slow(deepcopy(model), x, y)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    rounded = gradient_norms(stored(proto, shape, tmp_path, "dense", "int8"), x, y)
    near, true = np.sort(rounded), np.sort(expected)  # its layers come in another order
    assert np.median(np.abs(near - true)[true > 0] / true[true > 0]) < off


def test_what_convolutional_networks_may_hold(tmp_path: Path) -> None:
    """Groups, depthwise layers, PReLU, instance norm, a concatenation."""
    torch.manual_seed(0)
    model = fold_bn(coupled(4, (3, 8, 8)).eval())
    x, y = examples((3, 8, 8), 3)
    got, expected = gradient_norms(exported(model, (3, 8, 8), tmp_path), x, y), slow(model, x, y)
    np.testing.assert_allclose(np.sort(got), np.sort(expected), rtol=1e-3)  # modules are in another order


def test_one_weight_in_two_layers(tmp_path: Path) -> None:
    """With pooling, dilation and group norm before them."""
    torch.manual_seed(0)
    twice = nn.Linear(6, 6)
    body = [nn.Conv2d(3, 6, 3, stride=2, padding=2, dilation=2), nn.Hardswish(), nn.AvgPool2d(3, 1, 1)]
    ending = [nn.GroupNorm(2, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), twice, nn.Tanh(), twice]
    model = nn.Sequential(*body, *ending)
    x, y = examples((3, 8, 8), 3)
    got = gradient_norms(exported(model, (3, 8, 8), tmp_path), x, y)
    np.testing.assert_allclose(got, slow(model, x, y), rtol=1e-3)


def test_hardened_outputs_are_cut_off(tmp_path: Path) -> None:
    model, shape, proto = network("residual")
    x, y = examples(shape, 4)
    plain = gradient_norms(stored(proto, shape, tmp_path, "dense", "fp32"), x, y)
    layer = head("label-only", 5)
    assert layer is not None
    hardened = exported(nn.Sequential(model, layer).eval(), shape, tmp_path)
    np.testing.assert_allclose(gradient_norms(hardened, x, y), plain, rtol=1e-6)


@settings(max_examples=40)
@given(
    count=st.integers(1, 3),
    groups=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.integers(1, 2),
)
def test_any_convolution(
    count: int,
    groups: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, ...],
    dilation: int,
) -> None:
    torch.manual_seed(0)
    attributes = {"group": groups, "strides": [*strides], "pads": [*pads], "dilations": [dilation] * 2}
    node = Node("Conv", ("x", "w"), ("y",), attributes)
    x, w = torch.randn(count, 2 * groups, 7, 6), torch.randn(3 * groups, 2, *kernel).relu()
    w.requires_grad_()
    (y,) = OPERATORS["Conv"](node, [x, w])
    g = torch.randn_like(y)
    got = layers.squared_norms([Use(node, x, y.detach())], [g], w.detach())
    expected = []
    for i in range(count):
        (gradient,) = torch.autograd.grad((y[i] * g[i]).sum(), w, retain_graph=True)
        squares = gradient.square()
        expected.append([squares[w != 0].sum().item(), squares[w == 0].sum().item()])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_quantisation_is_straight_through_inside_its_range() -> None:
    x = torch.linspace(-1, 3, 41).requires_grad_()
    scale, zero = torch.tensor(0.01), torch.tensor(20, dtype=torch.uint8)
    (q,) = OPERATORS["QuantizeLinear"](Node("QuantizeLinear", (), (), {}), [x, scale, zero])
    (got,) = OPERATORS["DequantizeLinear"](Node("DequantizeLinear", (), (), {}), [q, scale, zero])
    twin = x.detach().clone().requires_grad_()
    expected = torch.fake_quantize_per_tensor_affine(twin, 0.01, 20, 0, 255)
    torch.testing.assert_close(got, expected)
    got.sum().backward()
    expected.sum().backward()
    inside = (x > -0.2 + 1e-4) & (x < 2.35 - 1e-4)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, inside.float())
    assert twin.grad is not None
    torch.testing.assert_close(x.grad[inside], twin.grad[inside])


HEADER = '<ir_version: 8, opset_import: ["": 18]> g (float[N, 2, 2, 2] input) => (float[N, 3] logits) '


def from_text(body: str, folder: Path, **weights: NDArray[np.float32]) -> Artifact:
    model = parser.parse_model(HEADER + "{" + body + "}")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    return artifact(folder, model.SerializeToString(), (2, 2, 2), 3)


WEIGHT = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)


@pytest.mark.parametrize("gap", [1.0, 60.0])
def test_linear_network_has_the_closed_form(gap: float, tmp_path: Path) -> None:
    """|softmax(z) - e_y| |x|, which does not vanish where float32 takes p_y for 1; what softmax hides is cut off."""
    bias = np.array([0, gap, 0], np.float32)
    x, y = examples((2, 2, 2), 6)
    y[:3] = 1
    flat = (x.reshape(6, -1).astype(np.float64) - MEAN) / STD
    p = np.exp(flat @ WEIGHT + bias)
    p /= p.sum(1, keepdims=True)
    slopes = p * (1 - np.eye(3)[y])
    slopes[np.arange(6), y] = -slopes.sum(1)
    expected = np.linalg.norm(slopes, axis=1) * np.linalg.norm(flat, axis=1)
    for ending in ("logits = Gemm (a, w, b)", "c = Gemm (a, w, b) logits = Softmax (c)"):
        made_of = from_text(f"a = Flatten (input) {ending}", tmp_path, w=WEIGHT, b=bias)
        got = gradient_norms(made_of, x, y)
        np.testing.assert_allclose(got, np.outer(expected, [1, 0]), rtol=1e-4)
    assert (got[:3, 0] > 0).all()


def test_an_edge_has_no_gradient(tmp_path: Path) -> None:
    """Of a channel at the edge of a Clip or ReLU, as pruning leaves them, no gradient comes back."""
    body = "a = Flatten (input) b = Gemm (a, first) c = {} logits = Gemm (c, w)"
    first = np.zeros((8, 8), np.float32)
    x, y = examples((2, 2, 2), 2)
    for edge in ("Relu (b)", "Clip (b, low, high)"):
        made_of = from_text(body.format(edge), tmp_path, first=first, w=WEIGHT, low=np.float32(0), high=np.float32(6))
        assert not gradient_norms(made_of, x, y)[:, [0, 2]].any()


def test_gemm_with_a_factor_and_matmul_read_the_weight_alike(tmp_path: Path) -> None:
    x, y = examples((2, 2, 2), 4)
    scaled = from_text("a = Flatten (input) logits = Gemm <alpha = 2.0> (a, w)", tmp_path, w=WEIGHT)
    twice = gradient_norms(scaled, x, y)
    turned = from_text("a = Flatten (input) logits = Gemm <transB = 1> (a, w)", tmp_path, w=2 * WEIGHT.T.copy())
    once = gradient_norms(turned, x, y)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    product = from_text("a = Flatten (input) logits = MatMul (a, w)", tmp_path, w=2 * WEIGHT)
    np.testing.assert_allclose(gradient_norms(product, x, y), once, rtol=1e-5)


def test_positions_of_one_example_are_summed(tmp_path: Path) -> None:
    body = """shape = Constant <value_ints = [0, 2, 4]> () a = Reshape (input, shape) b = MatMul (a, w)
              logits = ReduceMean <keepdims = 0> (b, axes)"""
    made_of = from_text(body, tmp_path, w=WEIGHT[:4], axes=np.array([1], np.int64))
    x, y = examples((2, 2, 2), 4)
    z = (torch.from_numpy(x.reshape(4, 2, 4)) - MEAN) / STD
    expected = []
    for image, label in zip(z, y, strict=True):
        w = torch.from_numpy(WEIGHT[:4]).requires_grad_()
        loss = F.cross_entropy((image @ w).mean(0, keepdim=True), torch.tensor([label]))
        expected.append([torch.autograd.grad(loss, w)[0].norm().item(), 0.0])
    np.testing.assert_allclose(gradient_norms(made_of, x, y), expected, rtol=1e-5)


def test_residual_is_accurate_next_to_one() -> None:
    got = residual(np.array([[0.0, 800.0], [800.0, 0.0], [0.0, 50.0]]), np.array([1, 1, 1]))
    np.testing.assert_allclose(got, [[0, 0], [1, -1], [np.exp(-50), -np.exp(-50)]], rtol=1e-12)


@pytest.mark.parametrize("count", [0, 1])
def test_few_examples(count: int, tmp_path: Path) -> None:
    made_of = from_text("a = Flatten (input) logits = Gemm (a, w)", tmp_path, w=WEIGHT)
    assert gradient_norms(made_of, *examples((2, 2, 2), count)).shape == (count, 2)


def test_memory_bounds_change_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shape, proto = network("residual")
    made_of = stored(proto, shape, tmp_path, "dense", "fp32")
    x, y = examples(shape, 5)
    whole = gradient_norms(made_of, x, y)
    np.testing.assert_allclose(gradient_norms(made_of, x, y, batch=2), whole, rtol=1e-5)
    monkeypatch.setattr(gradients, "BATCH_NUMBERS", 1)
    monkeypatch.setattr(layers, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(gradient_norms(made_of, x, y), whole, rtol=1e-5)


REFUSED = {
    "no gradients through Round": "a = Flatten (input) b = Round (a) logits = Gemm (b, w)",
    "no gradients through If": """yes = Constant <value = bool {1}> () a = Flatten (input)
        c = If (yes) <then_branch = t () => (float[N, 8] b) {b = Identity (a)},
                      else_branch = e () => (float[N, 8] d) {d = Identity (a)}> logits = Gemm (c, w)""",
    "mixes examples": """shape = Constant <value_ints = [0, 1, 8]> () a = Reshape (input, shape)
        b = Transpose <perm = [1, 0, 2]> (a) c = MatMul (b, w) logits = Squeeze (c, axes)""",
    "no layer with weights": "a = Flatten (input) logits = Slice (a, axes, ends, ends)",
    r"outputs are \(1, 8\), not \(1, 3\)": "a = Flatten (input) logits = Gemm (a, square)",
    "Gemm cannot be differentiated": "a = Flatten (input) b = Transpose (a) logits = Gemm <transA = 1> (b, w)",
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_gradient_is_refused(message: str, tmp_path: Path) -> None:
    x, y = examples((2, 2, 2), 2)
    weights = {"w": WEIGHT, "axes": np.array([0], np.int64), "ends": np.array([3], np.int64)}
    made_of = from_text(REFUSED[message], tmp_path, **weights, square=np.eye(8, dtype=np.float32))
    with pytest.raises(ArtifactError, match=message):
        gradient_norms(made_of, x, y)


def test_an_interpreter_that_computes_something_else_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of = from_text("a = Flatten (input) b = Relu (a) logits = Gemm (b, w)", tmp_path, w=WEIGHT)
    x, y = examples((2, 2, 2), 4)
    monkeypatch.setitem(OPERATORS, "Relu", OPERATORS["Sigmoid"])
    with pytest.raises(ArtifactError, match="other logits than in ONNX Runtime: they differ by"):
        gradient_norms(made_of, x, y)


def test_untrusted_files_are_refused(tmp_path: Path) -> None:
    x, y = examples((2, 2, 2), 1)
    made_of = from_text("a = Flatten (input) logits = Gemm (a, w)", tmp_path, w=WEIGHT)
    content = made_of.model_path.read_bytes()
    made_of.model_path.write_bytes(content[:-1] + b"\0")
    with pytest.raises(ArtifactError, match="was altered: its sha256"):
        gradient_norms(made_of, x, y)
    with pytest.raises(ArtifactError, match="corrupt ONNX file"):
        gradient_norms(artifact(tmp_path, b"\xff" * 20, (2, 2, 2), 3), x, y)
    with pytest.raises(ArtifactError, match="target onnx, not torchscript-lite"):
        gradient_norms(replace(made_of, manifest=replace(made_of.manifest, target="torchscript-lite")), x, y)
    model = onnx.load_model_from_string(content)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ArtifactError, match="keeps weights in other files"):
        gradient_norms(artifact(tmp_path, model.SerializeToString(), (2, 2, 2), 3), x, y)
    model = onnx.load_model_from_string(content)
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(ArtifactError, match=r"no image reaches|cannot be differentiated|refuses this model"):
        gradient_norms(artifact(tmp_path, model.SerializeToString(), (2, 2, 2), 3), x, y)


def test_examples_are_checked(tmp_path: Path) -> None:
    made_of = from_text("a = Flatten (input) logits = Gemm (a, w)", tmp_path, w=WEIGHT)
    x, y = examples((2, 2, 2), 2)
    with pytest.raises(UsageError, match="does not fit this model"):
        gradient_norms(made_of, x[:, :1], y)
    with pytest.raises(UsageError, match="batch 0"):
        gradient_norms(made_of, x, y, batch=0)
    with pytest.raises(DataError, match="labels must be integers of shape"):
        gradient_norms(made_of, x, y[:1])
    with pytest.raises(DataError, match=r"must lie in 0\.\.2, got 3\.\.3"):
        gradient_norms(made_of, x, np.full(2, 3))
