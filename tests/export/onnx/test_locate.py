"""The first value that differs is found, wherever the file was changed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from support.networks import made
from torch import nn

from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.harden import harden
from mobileprune.export import ExportOptions, target
from mobileprune.export.onnx import write
from mobileprune.export.onnx.locate import locate

pytestmark = pytest.mark.usefixtures("exporter_once")
WHERE = {"stem.0.weight": "conv2d", "block.0.weight": "conv2d_1", "head.weight": "logits"}


@pytest.mark.parametrize("form", ["dense", "packed"])
def test_a_file_that_is_right_has_no_such_value(tmp_path: Path, form: str) -> None:
    model, shape = made("residual")
    options = ExportOptions(sparse_format=form)
    write(fold_bn(model), shape, tmp_path / "m", options)
    assert locate(fold_bn(model), tmp_path / "m", torch.randn(3, *shape), options) == ""


@pytest.mark.parametrize("weight", WHERE)
def test_the_layer_whose_weight_was_changed_is_named(tmp_path: Path, weight: str) -> None:
    model, shape = made("residual")
    write(fold_bn(model), shape, tmp_path / "m", ExportOptions())
    proto = onnx.load(tmp_path / "m")
    (tensor,) = (t for t in proto.graph.initializer if t.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, weight))
    onnx.save(proto, tmp_path / "m")
    said = locate(fold_bn(model), tmp_path / "m", torch.randn(3, *shape), ExportOptions())
    assert f"first value that differs is '{WHERE[weight]}'" in said


def test_below_fp32_the_worst_is_named(tmp_path: Path) -> None:
    model, shape = made("residual")
    x = torch.randn(8, *shape)
    options = ExportOptions(precision="int8", calibration=x)
    write(fold_bn(model), shape, tmp_path / "m", options)
    assert "differs most" in locate(fold_bn(model), tmp_path / "m", x, options)


def test_values_that_are_no_floats_are_compared_too(tmp_path: Path) -> None:
    """A hardened graph has masks and places among its values."""
    model = harden(nn.Sequential(nn.Flatten(), nn.Linear(4, 5)).eval(), "label-only", 5)
    write(model, (1, 2, 2), tmp_path / "m", ExportOptions())
    assert locate(model, tmp_path / "m", torch.randn(3, 1, 2, 2), ExportOptions()) == ""


def test_the_target_offers_it() -> None:
    assert target("onnx").locate is locate
