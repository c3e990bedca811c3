"""Photos of many sizes: every verb brings them to the size that the manifest names, or that a stranger's file needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from mobileprune.data import load
from mobileprune.data.splits import split
from mobileprune.models.folder import ModelFolder

SOME = ("--epochs", 2, "--method", "magnitude", "--sparsity", 0.5, "--retrain-epochs", 1)
SIDE = 16
pytestmark = pytest.mark.usefixtures("quick_bench", "exporter_once")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In colour and from 10 to 40 pixels a side, half of them stated to be members."""
    folder, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for i in range(120):
        place = folder / ("members", "nonmembers")[i % 2] / "ab"[i // 2 % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*rng.integers(10, 41, 2), 3), np.uint8)).save(place / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def drawn(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same photos, of which nothing is stated."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    for file in photos.rglob("*.png"):
        place = folder / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / file.name).hardlink_to(file)
    return f"folder:{folder}"


@pytest.mark.slow
def test_an_artifact_is_asked_about_images_of_the_size_that_its_manifest_names(command, drawn, tmp_path) -> None:
    out, dataset = tmp_path / "out", ("--dataset", drawn)
    done = command("export", "-o", out, *dataset, *SOME)
    assert done.code == 1
    assert "all images must have one size" in done.err
    assert "--image-size N" in done.err
    assert command("export", "-o", out, *dataset, *SOME, "--image-size", SIDE).code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    recorded = manifest["lineage"]["data"]
    assert (manifest["input_shape"], recorded["image_size"]) == ([3, SIDE, SIDE], SIDE)
    images = load(drawn, image_size=SIDE)
    assert recorded["split_sha256"] == split(images, seed=0, canaries=0).sha256()
    assert command("audit", out, *dataset, "--references", 2).code in (0, 3, 4)
    for verb in ("bench", "report"):
        assert command(verb, out, *dataset).code == 0
    done = command("audit", out, *dataset, "--image-size", SIDE)
    assert (done.code, "--image-size would have no effect" in done.err) == (2, True)
    done = command("export", "-o", out, *dataset, *SOME, "--image-size", 17)
    assert (done.code, "made otherwise (--image-size)" in done.err) == (2, True)
    done = command("export", "-o", out, "--sparsity", 0.5)
    assert (done.code, "--image-size" in done.err) == (2, True), "what was given there and is not here is named too"


def test_a_model_folder_goes_on_with_its_size_and_takes_no_other(command, drawn, tmp_path) -> None:
    dense, dataset = tmp_path / "dense", ("--dataset", drawn)
    assert command("train", "-o", dense, *dataset, *SOME[:2], "--image-size", SIDE).code == 0
    assert ModelFolder.load(dense).info.config["data"]["image_size"] == SIDE
    assert command("prune", dense, "-o", tmp_path / "pruned", *dataset, *SOME[2:]).code == 0
    done = command("prune", dense, "-o", tmp_path / "other", *dataset, *SOME[2:], "--image-size", 8)
    assert (done.code, f"image size {SIDE}" in done.err) == (1, True)


def pooling(path: Path) -> Path:
    """A stranger's file for images of SIDE x SIDE pixels: the mean of each channel."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["pooled"]), helper.make_node("Flatten", ["pooled"], ["y"])]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    made = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    onnx.save(made, path)
    return path


def test_a_file_of_a_stranger_is_asked_about_images_of_the_size_given(command, photos, tmp_path) -> None:
    argv = ("audit", pooling(tmp_path / "theirs.onnx"), "--kind", "logits", "--dataset", f"folder:{photos}")
    done = command(*argv)
    assert (done.code, "--image-size N" in done.err) == (1, True)
    done = command(*argv, "--image-size", SIDE, "--json", "-")
    assert done.code in (0, 3, 4), done.err
    assert json.loads(done.out)["data"]["counts"]["members"] >= 20
    done = command(*argv, "--image-size", SIDE + 1)
    assert done.code in (1, 2), "which is not what the file takes"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("train", "--image-size", "16"), "--image-size 16 would have no effect on digits"),
        (("explain", "--image-size", "16"), "--image-size 16 would have no effect on digits"),
        (("export", "--dataset", "npz:a.npz", "--image-size", "16"), "would have no effect on npz:a.npz"),
        (("audit", "--outputs", "a.npz", "--image-size", "16"), "--image-size would have no effect: a table"),
        (("train", "--dataset", "folder:.", "--image-size", "4"), "--image-size 4: must be in [8, 4096]"),
        (("bench", "out", "--image-size", "16"), "unrecognized arguments: --image-size"),
    ],
)
def test_a_size_that_would_have_no_effect_is_refused(command, argv, words) -> None:
    done = command(*argv)
    assert (done.code, words in done.err) == (2, True), done.err


def test_a_sweep_brings_images_to_a_size_too(command, drawn, tmp_path) -> None:
    base = {"epochs": 1, "retrain_epochs": 1, "method": "magnitude", "sparsity": 0.5}
    lines = ["[base]", *(f"{name} = {json.dumps(value)}" for name, value in base.items()), "[grid]", "seed = [0]"]
    (tmp_path / "plan.toml").write_text("\n".join(lines))
    argv = ("sweep", tmp_path / "plan.toml", "-o", tmp_path / "out", "--dataset", drawn, "--image-size", SIDE)
    done = command(*argv, "--num-runs", 5, "--warmup-runs", 1, "--min-secs", 0, "--max-accuracy-drop", 100)
    assert done.code == 0, done.err
    (manifest,) = (json.loads(path.read_text()) for path in (tmp_path / "out").rglob("manifest.json"))
    assert manifest["lineage"]["data"]["image_size"] == SIDE
