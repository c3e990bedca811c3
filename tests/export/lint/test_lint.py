"""Exports are clean; and files that are no model."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lint import exported, found
from support.networks import CASES

from mobileprune.errors import ArtifactError
from mobileprune.export import TARGETS
from mobileprune.export.lint import Finding, findings_of

pytestmark = pytest.mark.usefixtures("exporter_once")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize(("target", "suffix"), [("onnx", ".onnx"), ("torchscript-lite", ".ptl")])
def test_exports_are_clean(tmp_path: Path, case: str, sparsity: float, target: str, suffix: str) -> None:
    assert found(exported(case, target, sparsity), tmp_path, suffix, CASES[case][1]) == []


@pytest.mark.parametrize("form", TARGETS["onnx"].forms)
@pytest.mark.parametrize("precision", TARGETS["onnx"].precisions)
def test_every_form_and_precision_is_clean(tmp_path: Path, form: str, precision: str) -> None:
    """Packed weights are bytes and small numbers, scales are tensors beside weights: none of it is a leak."""
    assert found(exported("residual", "onnx", 0.9, form, precision), tmp_path) == []


@pytest.mark.parametrize("suffix", [".onnx", ".ptl"])
@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04" + bytes(99), b"\x0a\xff"], ids=repr)
def test_a_file_that_is_none_is_an_artifact_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    with pytest.raises(ArtifactError, match="cannot be read as"):
        found(content, tmp_path, suffix)


def test_of_another_kind_of_file_the_bytes_are_searched(tmp_path: Path) -> None:
    assert found(b"\0/home/ada/net\0", tmp_path, ".tflite") == [Finding("path", "", "/home/ada/net")]
    assert found(b"\0weights\0", tmp_path, ".tflite") == []
    with pytest.raises(ArtifactError, match="is no file"):
        findings_of(tmp_path)
