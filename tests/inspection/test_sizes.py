"""The formulas are held against what the forms really take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mobileprune.convert.rice import pack
from mobileprune.export import TARGETS
from mobileprune.export.litert.sparse import compressed_rows
from mobileprune.inspection.case import Case, Network
from mobileprune.inspection.contents import Layer
from mobileprune.inspection.sizes import BITS, ESTIMATES, expected


def weight(shape: tuple[int, ...], sparsity: float, kind: str = "fp32") -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape).astype(np.float32)
    values[rng.random(shape) < sparsity] = 0
    if kind == "int8":
        return np.round(values / np.abs(values).max() * 127).astype(np.int8)
    return values.astype(np.float16) if kind == "fp16" else values


def case(values: np.ndarray, target: str, precision: str = "fp32", form: str = "auto") -> Case:
    layer = Layer("w", values.shape, int((values == 0).sum()))
    return Case(Network((layer,), None, values.size, None, None, True), target, precision, form)


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_packed_weights(sparsity, precision) -> None:
    values = weight((64, 32, 3, 3), sparsity, precision)
    actual = pack(values).num_bytes
    assert expected(case(values, "onnx", precision))["packed"] == pytest.approx(actual, rel=0.12)


def test_coordinates() -> None:
    values = weight((64, 32), 0.9)
    z = int(np.count_nonzero(values))
    assert expected(case(values, "onnx"))["coo"] == z * 12
    assert expected(case(values, "ort"))["coo"] == z * 6
    assert expected(case(weight((64, 32), 0.5), "onnx"))["coo"] == 64 * 32 * 4, "nothing gained, so it stays dense"


def test_compressed_rows() -> None:
    values = weight((64, 3, 3, 32), 0.9)  # as LiteRT has it
    parts = compressed_rows(values)
    oihw = values.transpose(0, 3, 1, 2)
    assert expected(case(oihw, "litert"))["sparse"] == pytest.approx(sum(part.nbytes for part in parts), rel=0.02)


def test_a_form_that_nobody_can_foretell_is_left_out() -> None:
    assert "sparse" in TARGETS["mnn"].forms
    assert [*expected(case(weight((8, 8), 0.9), "mnn"))] == ["dense"]


@pytest.mark.parametrize("layer", [Layer("w", (4, 4), 16), Layer("w", (4, 4), 0), Layer("w", (1,), 0)])
def test_extremes(layer) -> None:
    for estimate in ESTIMATES.values():
        assert estimate(layer, 32) >= 0


def test_every_form_of_onnx_against_a_real_file(tmp_path) -> None:
    from mobileprune.export.target import ExportOptions
    from mobileprune.inspection.readers import contents_of

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 40)).eval()
    with torch.no_grad():
        for name in ("0.weight", "3.weight"):
            model.get_parameter(name).mul_(torch.rand_like(model.get_parameter(name)) < 0.1)
    storage = TARGETS["onnx"].write(model, (3, 8, 8), tmp_path / "model.onnx", ExportOptions())
    layers = contents_of(tmp_path / "model.onnx").layers
    network = Network(layers, None, sum(x.total for x in layers), None, None, True)
    told = expected(Case(network, "onnx", "fp32", "auto"))
    assert told.keys() == storage.sizes.keys()
    overhead = 3500  # graph, functions, biases
    assert all(told[form] <= size <= 1.02 * told[form] + overhead for form, size in storage.sizes.items())
