"""inspect, compare and explain through the command line; what explain foretells is held against what export makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from jsonschema import Draft202012Validator

import mobileprune
from mobileprune import schemas
from mobileprune.config import Config
from mobileprune.inspection.explanation import IMAGES, images_of

pytestmark = pytest.mark.usefixtures("quick_bench")
PRUNED = {"sparsity": 0.9, "method": "magnitude", "retrain_epochs": 1, "epochs": 1, "members": 60}
FLAGS = [text for name, value in PRUNED.items() for text in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def made(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifact "onnx", its dense baseline "dense", and the model folder "folder" that both come from."""
    folder, ctx = tmp_path_factory.mktemp("made"), mobileprune.context(store)
    pipeline = pytest.importorskip("mobileprune.pipeline.export")
    config = mobileprune.configure(**PRUNED)
    mobileprune.train(folder / "folder", ctx=ctx, epochs=1, members=60)
    mobileprune.prune(folder / "pruned", ctx=ctx, **PRUNED)
    from mobileprune.models.folder import ModelFolder

    dense, pruned = (ModelFolder.load(folder / name) for name in ("folder", "pruned"))
    return {
        "folder": dense.path,
        "dense": pipeline.export(dense, config, ctx).path,
        "onnx": pipeline.export(pruned, config, ctx).path,
    }


def read(text: str, verb: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": schemas.document()["$defs"]}).validate(document)
    return document


def test_inspect_counts_in_the_file_what_the_manifest_says(command, made) -> None:
    shown = command("inspect", made["onnx"])
    assert shown.code == 0, shown.err
    for words in ("90.00%", "multiplications for one image", "operators: ", "Conv", "stored as packed", "entropy"):
        assert words in shown.out
    found = read(command("inspect", made["onnx"], "--json").out, "inspect")
    layers, recorded = found["contents"]["layers"], found["sparsity"]["layers"]
    assert {name: layer["zeros"] for name, layer in layers.items()} == {n: x["zeros"] for n, x in recorded.items()}
    assert found["contents"]["macs"] == 150 * 784 + 2400 * 100 + 48_000 + 10_080 + 840


def test_inspect_takes_a_file_that_somebody_else_made(command, made, tmp_path) -> None:
    file = tmp_path / "their [red]model.onnx"
    file.write_bytes((made["onnx"] / "model.onnx").read_bytes())
    found = read(command("inspect", file, "--json").out, "inspect")
    assert {"target", "lineage"}.isdisjoint(found)
    assert found["contents"] == read(command("inspect", made["onnx"], "--json").out, "inspect")["contents"]
    assert "file their [red]model.onnx, " in command("inspect", file).out


def test_compare(command, made) -> None:
    shown = command("compare", made["dense"], made["onnx"])
    assert shown.code == 0, shown.err
    for words in ("bytes if packed", "layers that differ", "prune.sparsity", "90.00%"):
        assert words in shown.out
    found = read(command("compare", made["dense"], made["onnx"], "--json").out, "compare")
    assert found["values"]["zeros"] == [0, 55_323]
    assert found["values"]["macs"][0] == found["values"]["macs"][1]
    assert found["operators"] == {}
    same = command("compare", made["onnx"], made["onnx"] / "model.onnx")
    assert (same.code, "byte for byte" in same.out, "layers that differ" in same.out) == (0, True, False)
    assert command("compare", made["onnx"], "nowhere").code == 1


def test_what_explain_foretells_is_what_export_makes(command, made, tmp_path) -> None:
    done = command("explain", *FLAGS, "--json", "-")
    assert (done.code, done.err) == (0, "")
    told = read(done.out, "explain")
    manifest = read(command("inspect", made["onnx"], "--json").out, "inspect")
    assert told["zeros"] == manifest["sparsity"]["prunable_zeros"]
    assert (told["macs"], told["counted"]) == (manifest["contents"]["macs"], False)
    storage = manifest["storage"]
    assert told["expected_bytes"][storage["form"]] == pytest.approx(storage["weight_bytes"], rel=0.05)
    assert (told["speed"], told["size"]) == ("none", "gain")
    after = read(command("explain", made["onnx"], "--json").out, "explain")
    assert (after["counted"], after["form"], after["zero_macs"]) == (True, "packed", manifest["contents"]["zero_macs"])
    shown = command("explain", made["onnx"]).out
    assert "faster: no; smaller: yes" in shown
    assert "expect 1.00x" in shown


def test_explain_of_a_model_folder_prunes_what_export_would(command, made) -> None:
    as_it_is, pruned = (
        read(command("explain", made["folder"], *more, "--json", "-").out, "explain")
        for more in ([], ["--sparsity", 0.5, "--target", "torchscript-lite"])
    )
    assert (as_it_is["zeros"], as_it_is["pattern"], as_it_is["counted"]) == (0, None, True)
    assert (pruned["zeros"], pruned["pattern"], pruned["counted"]) == (61_470 // 2, "unstructured", False)
    assert (pruned["target"], pruned["speed"]) == ("torchscript-lite", "loss")


@pytest.mark.parametrize("target", ["torchscript-lite", "mnn", "litert"])
def test_explain_of_an_artifact_for_another_target(command, made, target) -> None:
    """Also for one whose packages are not installed: nothing is converted."""
    told = read(command("explain", made["onnx"], "--target", target, "--json", "-").out, "explain")
    assert (told["target"], told["form"], told["zeros"]) == (target, "auto", 55_323)


def test_explain_takes_every_option_of_export(command) -> None:
    told = read(
        command("explain", "--pattern", "channel", "--channel-ratio", 0.5, "--model", "resnet8", "--json", "-").out,
        "explain",
    )
    assert (told["zeros"], told["speed"]) == (0, "gain")
    assert told["macs"] < 0.4 * told["dense_macs"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--sparsity", "1"], 2, "must be in [0, 1)"),
        (["--target", "onx"], 2, "did you mean 'onnx'"),
        (["--pattern", "channel", "--sparsity", "0.5", "--channel-ratio", "0.5"], 2, "give one of them"),
        (["--target", "torchscript-lite", "--sparse-format", "coo"], 2, "--sparse-format coo: target torchscript-lite"),
        (["nowhere"], 1, "nowhere is not an artifact"),
        (["ARTIFACT", "--sparsity", "0.5"], 2, "is exported already: --sparsity would have no effect"),
        (["ARTIFACT", "--target", "onx"], 2, "did you mean 'onnx'"),
    ],
)
def test_explain_refuses_what_export_would(command, made, argv, code, words) -> None:
    done = command("explain", *(made["onnx"] if part == "ARTIFACT" else part for part in argv))
    assert (done.code, words in done.err, done.out) == (code, True, ""), done


def test_explain_does_not_call_unpruned_what_it_cannot_count(command, tmp_path) -> None:
    text = '<ir_version: 10, opset_import: ["": 18]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }'
    (tmp_path / "model.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    done = command("explain", tmp_path / "model.onnx")
    assert (done.code, "no weights can be counted" in done.err) == (1, True)


def test_images_of_named_sets_are_those_that_would_be_loaded() -> None:
    from mobileprune.data import DATASETS

    assert IMAGES.keys() == DATASETS.keys()
    images = DATASETS["digits"](None)
    assert images_of(Config()) == (images.shape, len(images.classes))
