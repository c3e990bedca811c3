"""A look at artifacts and plain files, and what differs between two of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from support.runtimes import MANIFEST

from mobileprune.artifact import Artifact, write_artifact
from mobileprune.errors import ArtifactError
from mobileprune.files import sha256
from mobileprune.inspection import Difference, look
from mobileprune.inspection.view import FROM_MANIFEST, View
from mobileprune.schemas import problems

GRAPH = """<ir_version: 10, opset_import: ["": 18]>
    g (float[N, 3, 4, 4] input) => (float[N, 4] logits) {
        a = Conv (input, conv.weight) b = Relu (a) c = Flatten (b) logits = Gemm <transB = 1> (c, fc.weight) }"""


def model(folder: Path, zeros: int) -> Path:
    """A network with ``zeros`` zeros in its convolution."""
    weight = np.ones((2, 3, 3, 3), np.float32)
    weight.ravel()[:zeros] = 0
    made = parser.parse_model(GRAPH.replace("conv.weight", "conv_weight").replace("fc.weight", "fc_weight"))
    weights = {"conv_weight": weight, "fc_weight": np.ones((4, 8), np.float32)}
    made.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    folder.mkdir()
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


def artifact(folder: Path, file: Path, target: str = "onnx", **changes: Any) -> Artifact:
    layers = {"conv_weight": {"shape": [2, 3, 3, 3], "total": 54, "zeros": 10}}
    storage = {"form": "dense", "why": "asked for", "sizes": {"dense": 900, "coo": 800}}
    manifest = replace(
        MANIFEST,
        target=target,
        file=file.name,
        sha256=sha256(file),
        size_bytes=file.stat().st_size,
        sparsity={"layers": layers},
        storage=storage | {"bound_bytes": 200, "weight_bytes": 300},
        parity={"max_difference": 1e-6, "top1_agreement": 1.0},
        lineage={"prune": {"sparsity": 0.5}, "versions": {"torch": "2"}},
    )
    path = folder / "artifact"
    write_artifact(path, file, replace(manifest, **changes))
    return Artifact(path, manifest)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests without what :mod:`mobileprune.schemas` asks for."""
    monkeypatch.setattr("mobileprune.artifact.problems", lambda value, name: [])
    monkeypatch.setattr("mobileprune.artifact._miscounted", lambda sparsity: [])


def test_a_file_without_a_manifest(tmp_path) -> None:
    view = look(model(tmp_path / "a", 10))
    assert view.manifest is None
    assert view.contents.macs == 54 * 4 + 32
    assert view.deflated_bytes < view.size_bytes == view.file.stat().st_size
    assert problems({"schema": "mobileprune.inspect/1", **view.to_dict()}, "inspect") == []


@pytest.mark.usefixtures("unchecked")
def test_an_artifact_has_its_manifest_and_what_its_file_says(tmp_path) -> None:
    file = model(tmp_path / "a", 20)
    view = look(artifact(tmp_path, file).path)
    assert view.to_dict()["input_shape"] == [3, 4, 4]
    assert view.contents.layers[0].zeros == 20, "counted in the file, not believed"
    (tmp_path / "artifact" / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match="altered or truncated"):
        look(tmp_path / "artifact")


@pytest.mark.usefixtures("unchecked")
def test_where_the_file_does_not_tell_the_manifest_does(tmp_path) -> None:
    (tmp_path / "model.mnn").write_bytes(b"...")
    view = look(artifact(tmp_path, tmp_path / "model.mnn", "mnn").path)
    assert [(x.name, x.zeros, x.macs) for x in view.contents.layers] == [("conv_weight", 10, None)]
    assert FROM_MANIFEST in view.contents.notes


@pytest.mark.parametrize("name", ["nowhere", "a.txt"])
def test_what_is_neither_is_an_artifact_error(tmp_path, name) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ArtifactError, match=name):
        look(tmp_path / name)


def compared(a: View, b: View) -> dict[str, Any]:
    value = Difference(a, b).to_dict()
    assert problems({"schema": "mobileprune.compare/1", **value}, "compare") == []
    return value


@pytest.mark.usefixtures("unchecked")
def test_two_artifacts(tmp_path) -> None:
    sides = []
    for name, zeros, prune in (("a", 10, {"sparsity": 0.5}), ("b", 20, None)):
        file = model(tmp_path / name, zeros)
        made = artifact(tmp_path / name, file, lineage={"prune": prune, "versions": {"torch": "2"}})
        sides.append(look(made.path))
    value = compared(*sides)
    assert value["same_file"] is False
    assert value["values"]["zeros"] == [10, 20]
    assert value["values"]["zero_macs"] == [40, 80]
    assert value["values"]["parity_max_difference"] == [1e-6, 1e-6]
    assert value["forms"] == {"dense": [900, 900], "coo": [800, 800]}
    assert value["layers"]["conv_weight"]["zeros"] == [10, 20]
    assert value["operators"] == {}
    assert value["lineage"] == {"prune.sparsity": [0.5, None]}


@pytest.mark.usefixtures("unchecked")
def test_an_artifact_and_a_plain_file(tmp_path) -> None:
    file = model(tmp_path / "a", 10)
    value = compared(look(artifact(tmp_path, file).path), look(file))
    assert value["same_file"] is True
    assert value["values"]["target"] == ["onnx", None]
    assert value["lineage"] == {}


def test_layers_and_operators_that_only_one_has(tmp_path) -> None:
    a = look(model(tmp_path / "a", 0))
    fewer = replace(a.contents, layers=a.contents.layers[:1], operators={"Conv": 1, "Relu": None, "Tanh": 2})
    value = compared(a, replace(a, contents=fewer))
    assert value["layers"]["fc_weight"]["shape"] == [[4, 8], None]
    assert value["operators"] == {"Flatten": [1, 0], "Gemm": [1, 0], "Relu": [1, None], "Tanh": [0, 2]}
    silent = replace(a.contents, operators=None)
    assert compared(a, replace(a, contents=silent))["operators"] == {}
