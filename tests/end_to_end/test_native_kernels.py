"""``--kernels native`` the whole way: one file, run by the native library where it is and by ONNX Runtime elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.native import needs_library

from mobileprune import schemas
from mobileprune.artifact import Artifact
from mobileprune.export.onnx.native import DENSE
from mobileprune.runtimes import open_runtime
from mobileprune.sparse_operators import is_sparse

pytestmark = pytest.mark.usefixtures("quick_bench")
OFF, ABSENT = ("MOBILEPRUNE_NATIVE", "off"), "not on mobileprune's: MOBILEPRUNE_NATIVE is off"
NATIVE = "its sparse layers ran on native kernels"
LAYERS = "2 of 5 layers are for mobileprune's native library, by rule: convolutions with at least 65% zeros"


@pytest.fixture
def made(command, tiny, tmp_path, monkeypatch) -> dict[str, Any]:
    """The export verb's document, of an export without the library; the artifact lies in ``tmp_path / "out"``."""
    with monkeypatch.context() as patch:
        patch.setenv(*OFF)
        done = command("export", "-o", tmp_path / "out", *tiny, "--kernels", "native", "--json", tmp_path / "made.json")
    assert (done.code, LAYERS in done.out, ABSENT in done.out) == (0, True, True), done
    document: dict[str, Any] = json.loads((tmp_path / "made.json").read_text())
    assert schemas.problems(document, "export") == []
    return document


def verb(command, name: str, folder: Path, *options: object) -> tuple[dict[str, Any], str]:
    """Its document and its table."""
    path = folder.with_name(f"{name}.json")
    done = command(name, folder, *options, "--json", path)
    assert done.code in (0, 4), done
    document = json.loads(path.read_text())
    assert schemas.problems(document, name) == []
    return document, done.out


BENCH = ("--num-runs", 5, "--min-secs", 0, "--warmup-runs", 1)


def test_without_the_library_every_verb_runs_it_and_says_so(command, made, artifacts, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(*OFF)
    folder = tmp_path / "out"
    stock, native = Artifact.load(artifacts["onnx"]), Artifact.load(folder)
    assert [made["bench"]["kernels"][key] for key in ("native", "speedup")] == [False, None]
    assert [layer["kernel"] for layer in native.manifest.storage["kernels"]["layers"]] == ["native"] * 2 + [DENSE] * 3
    assert stock.manifest.storage["kernels"] is None
    assert native.manifest.parity == stock.manifest.parity
    x = np.random.default_rng(0).random((20, 1, 28, 28), np.float32)
    assert open_runtime(native).predict(x).tobytes() == open_runtime(stock).predict(x).tobytes()
    assert ABSENT in verb(command, "bench", folder, *BENCH)[1]
    audited, _ = verb(command, "audit", folder, "--access", "file")
    assert any(ABSENT in note for note in audited["notes"])
    assert "gradient_norm" in audited["subjects"]["artifact"]["measurements"]["all"]
    inspected, shown = verb(command, "inspect", folder)
    assert LAYERS[:40] in shown
    assert inspected["contents"]["operators"] == {"Conv": 2, "Gemm": 3, "MaxPool": 2, "Relu": 4, "Reshape": 1}
    assert {name: layer["zeros"] for name, layer in inspected["contents"]["layers"].items()} == {
        name: layer["zeros"] for name, layer in inspected["sparsity"]["layers"].items()
    }
    assert command("inspect", "--lint", folder).code == 0
    assert "2 of 5 layers have enough zeros" in command("explain", folder).out
    page = (folder / "report.md").read_text()
    assert all(words in page for words in ("## Kernels by layer", "SparseConvRelu", LAYERS, ABSENT))


@needs_library
def test_with_the_library_every_verb_runs_its_kernels_and_says_so(command, made, tiny, tmp_path) -> None:
    folder, again = tmp_path / "out", tmp_path / "again"
    measured, shown = verb(command, "bench", folder, *BENCH)
    assert measured["kernels"]["native"]
    assert measured["kernels"]["speedup"]["value"] > 0
    assert all(words in shown for words in (NATIVE, "by native kernels, same file"))
    for name in ("attack", "audit"):
        document, _ = verb(command, name, folder)
        assert any(note.startswith(NATIVE) for note in document["notes"])
    done = command("export", "-o", again, *tiny, "--kernels", "native")
    assert (done.code, NATIVE in done.out) == (0, True), done
    assert (again / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


@needs_library
def test_measured_kernels_are_in_the_manifest(command, tiny, tmp_path) -> None:
    done = command("export", "-o", tmp_path / "out", *tiny, "--kernels", "measured")
    assert done.code == 0, done
    artifact = Artifact.load(tmp_path / "out")
    kernels = artifact.manifest.storage["kernels"]
    assert kernels["by"] == "measured"
    assert all(layer["ratio"] > 0 for layer in kernels["layers"])
    count = sum(layer["kernel"] == "native" for layer in kernels["layers"])
    assert sum(map(is_sparse, onnx.load(artifact.model_path).graph.node)) == count


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--kernels", "native", "--precision", "int8"), 2, "computes in float32"),
        (("--kernels", "native", "--target", "ort"), 2, "target ort has stock"),
        (("--kernels", "fast"), 2, "choose from 'stock', 'native', 'measured'"),
        (("--kernels", "measured"), 5, "needs the native library (MOBILEPRUNE_NATIVE is off)"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    command, tiny, tmp_path, monkeypatch, options, code, words
) -> None:
    monkeypatch.setenv(*OFF)
    done = command("export", "-o", tmp_path / "out", "--runs", tmp_path / "runs", *tiny, *options)
    assert (done.code, words in done.err) == (code, True), done
    assert not [*tmp_path.rglob("*.*")], "no training before, no artifact after"
