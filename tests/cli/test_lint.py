"""``inspect --lint``: on an artifact, on a stranger's file; what it shows, and its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import mobileprune
from mobileprune.errors import ArtifactError
from mobileprune.schemas import problems


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A model with pictures in it, a doc string that would move the cursor, and a name that rich would read."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["y"], name="[red]", doc_string="\x1b[2J")],
        "g",
        [helper.make_tensor_value_info("input", 1, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("y", 1, None)],
        initializer=[numpy_helper.from_array(np.ones((5, 3, 4, 4), np.float32), "calibration")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "theirs.onnx")
    return tmp_path / "theirs.onnx"


def test_a_strangers_file_is_shown_with_what_is_in_it(command, leaky) -> None:
    done = command("inspect", "--lint", leaky)
    assert done.code == 3
    for words in ("images", "5x3x4x4 tensor: 5 images?", "metadata", "node [red]", "unused", "3 findings"):
        assert words in done.out
    assert "\x1b" not in done.out


def test_as_json(command, leaky) -> None:
    done = command("inspect", "--lint", leaky, "--json", "-", "-q")
    value = json.loads(done.out)
    assert (done.code, done.err) == (3, "")
    assert value["schema"] == "mobileprune.lint/1"
    assert problems(value, "lint") == []
    assert {each["rule"] for each in value["findings"]} == {"images", "metadata", "unused"}
    assert {each["file"] for each in value["findings"]} == {"theirs.onnx"}
    assert mobileprune.lint(leaky) == {key: value[key] for key in ("path", "findings")}


@pytest.mark.parametrize("target", ["onnx", "torchscript-lite"])
def test_artifacts_are_clean(command, artifacts, target) -> None:
    done = command("inspect", "--lint", artifacts[target])
    assert (done.code, done.out) == (0, f"{artifacts[target]}: nothing that should not be in it\n")
    assert mobileprune.lint(artifacts[target])["findings"] == []


def test_a_file_beside_an_artifact_is_found(command, artifacts, tmp_path) -> None:
    folder = shutil.copytree(artifacts["onnx"], tmp_path / "out")
    (folder / "model.onnx.data").write_bytes(b"")
    done = command("inspect", folder, "--lint", "--json", "-")
    assert done.code == 3
    (found,) = json.loads(done.out)["findings"]
    assert found == {"file": "model.onnx.data", "rule": "stray", "where": "", "what": "file beside the artifact"}


def test_what_cannot_be_read_is_an_error(command, artifacts, tmp_path) -> None:
    folder = shutil.copytree(artifacts["onnx"], tmp_path / "out")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1])
    for path, words in ((folder, "altered or truncated"), (tmp_path / "none.onnx", "is no file")):
        done = command("inspect", "--lint", path)
        assert (done.code, done.out) == (1, "")
        assert words in done.err
        with pytest.raises(ArtifactError):
            mobileprune.lint(path)
