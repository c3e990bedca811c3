"""Functions and plain model files that we did not make, in their runtimes; hostile ones too."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.foreign import LABELS, MEMBER, PIXELS, SHAPE, expected, linear_onnx, linear_ort, linear_ptl

import mobileprune
from mobileprune.audit.verdict import Policy
from mobileprune.config import Effort
from mobileprune.errors import ArtifactError, DataError, TargetUnavailableError, UsageError
from mobileprune.foreign.models import of_file
from mobileprune.foreign.signature import Signature
from mobileprune.schemas import problems

MAKERS = {
    "model.onnx": linear_onnx,
    "channels-last.onnx": lambda path: linear_onnx(path, last=True),
    "one.onnx": lambda path: linear_onnx(path, batch=1),
    "model.ptl": linear_ptl,
    "model.ort": linear_ort,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_plain_file_answers_as_it_computes(name: str, tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((5, *SHAPE), np.float32)
    path = MAKERS[name](tmp_path / name)
    assert np.allclose(of_file(path, SHAPE, None, None).predict(x), expected(x), atol=1e-4)
    scaled = of_file(path, SHAPE, [0.1, 0.1, 0.1], [0.5, 0.5, 0.5]).predict(x)
    assert np.allclose(scaled, expected(x, 0.1, 0.5), atol=1e-4)
    assert of_file(path, SHAPE, None, None).predict(x[:0]).shape[0] == 0


def test_a_plain_file_is_attacked_on_data_that_state_membership(dataset: str, store: Path, tmp_path: Path) -> None:
    path, ctx = linear_onnx(tmp_path / "theirs.onnx"), mobileprune.context(store)
    result = mobileprune.attack(path, data={"dataset": dataset}, ctx=ctx)
    value = result.to_dict()
    assert problems({"schema": "mobileprune.foreign/1", **value}, "foreign") == []
    assert value["model"]["kind"] == "file"
    assert value["model"]["name"] == "theirs.onnx"
    assert value["model"]["outputs"] == "logits"
    assert value["data"]["membership"] == "stated"
    subject = value["subjects"]["artifact"]
    pixels = PIXELS[MEMBER].astype(np.float32) / 255
    right = (expected(pixels).argmax(1) == LABELS[MEMBER]).mean()
    assert abs(subject["accuracy"]["members"] - right) < 0.2, "a subset of the members is asked"
    assert set(subject["accuracy"]) == {"members", "held_out", "test"}
    counts, members = value["data"]["counts"], int(MEMBER.sum())
    named = f"the data name {members} members and {len(MEMBER) - members} non-members: {counts['members']} members are"
    assert any(note.startswith(named) for note in value["notes"]) == (counts["members"] < members)
    assert {"loss", "gap"} <= subject["measurements"]["all"].keys()
    again = mobileprune.attack(path, data={"dataset": dataset}, ctx=ctx)
    assert again.to_dict() == value
    assert ctx.store.done[-1].reused, "a file is asked once"
    other = mobileprune.attack(path, data={"dataset": dataset}, ctx=ctx, mean="0.5", std="0.01", kind="logits")
    assert not ctx.store.done[-1].reused, "another preprocessing is another model"
    assert other.to_dict()["subjects"] != value["subjects"]


def test_a_function_that_knows_its_members_by_heart_fails_the_audit(dataset: str, theirs: str, store: Path) -> None:
    ctx, unfinished = mobileprune.context(store), sorted((store / "partial").glob("*"))
    audited = mobileprune.audit(predict=f"{theirs}:memory", data={"dataset": dataset}, ctx=ctx)
    value = audited.to_dict()
    assert problems({"schema": "mobileprune.foreign/1", **value}, "foreign") == []
    assert value["model"] == {
        "kind": "function",
        "name": "their_model:memory",
        "sha256": None,
        "outputs": "probabilities",
    }
    assert value["subjects"]["artifact"]["measurements"]["all"]["loss"]["auc"]["value"] > 0.95
    assert (value["verdict"]["overall"], audited.exit_code) == ("fail", 3)
    assert [f["question"] for f in value["verdict"]["findings"]] == ["ceiling"], "nothing was deployed by us"
    assert "conversion" not in value["verdict"]["sentence"]
    assert all("evaluation mode" not in note for note in value["notes"])
    assert sorted((store / "partial").glob("*")) == unfinished
    before = sum(1 for _ in store.rglob("step.json"))
    memory = vars(sys.modules["their_model"])["memory"]
    again = mobileprune.audit(predict=memory, data={"dataset": dataset}, ctx=ctx).to_dict()
    assert again["subjects"] == value["subjects"]
    assert sum(1 for _ in store.rglob("step.json")) == before, (
        "what a function depends on is not known: nothing is kept"
    )


def test_more_queries_ask_a_function_about_changed_copies(dataset: str) -> None:
    images = dict.fromkeys((1, 2), 0)
    found = {}
    for count in images:

        def ask(x: Any, count: int = count) -> Any:
            images[count] += len(x)
            return expected(x)

        effort = Effort(queries=count, access="labels")
        subject = mobileprune.attack(predict=ask, data={"dataset": dataset}, effort=effort).to_dict()["subjects"]
        found[count] = subject["artifact"]["measurements"]["all"]
        assert {m["access"] for m in found[count].values()} == {"labels"}
    assert found[1].keys() <= found[2].keys()
    assert images[2] >= images[1] + 2 * 66, "66 examples, 2 copies of each at the least"


def test_a_model_whose_answer_depends_on_its_batch_is_pointed_out(dataset: str, theirs: str) -> None:
    result = mobileprune.attack(predict=f"{theirs}:of_the_batch", data={"dataset": dataset})
    assert any("evaluation mode" in note for note in result.to_dict()["notes"])
    wide = mobileprune.attack(predict=f"{theirs}:twelve", data={"dataset": dataset}).to_dict()
    assert "it has 12 outputs for 4 classes: labels are taken as the first of them" in wide["notes"]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"predict": "nowhere:f"}, UsageError, "--predict nowhere:f: cannot import"),
        ({"predict": "their_model:number"}, UsageError, "--predict their_model:number: number is not a function"),
        ({"predict": "their_model:broken"}, ArtifactError, r"broken: failed on 66 images \(RuntimeError: no GPU here"),
        ({"predict": "their_model:two"}, DataError, "has 2 outputs, but the data have 4 classes"),
        ({"predict": "their_model:flat"}, DataError, r"gave outputs of shape \(66,\), must be \(66, classes\)"),
        ({"predict": "their_model:unfinished"}, DataError, "image 0 of 66: outputs must be finite, got nan"),
        ({"predict": "their_model:twelve", "kind": "probabilities"}, DataError, "image 0 of .* they sum to 66"),
        ({"predict": "their_model:two", "kind": "logit"}, UsageError, "did you mean 'logits'"),
        ({"predict": "their_model:two", "mean": "0.5"}, UsageError, "--mean and --std are for model files"),
        ({"predict": "their_model:two", "outputs": "t.csv"}, UsageError, "give one of ARTIFACT"),
        ({}, UsageError, "give one of ARTIFACT"),
    ],
)
def test_wrong_functions_and_options(dataset: str, theirs: str, given: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        mobileprune.attack(data={"dataset": dataset}, **given)


def test_membership_must_be_stated(theirs: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    for data in ({}, {"dataset": "cifar10"}, {"dataset": f"npz:{tmp_path / 'a.npz'}"}):
        with pytest.raises(DataError, match="must know who was trained on: give --dataset folder:PATH"):
            mobileprune.attack(predict=f"{theirs}:two", data=data)


@pytest.mark.parametrize(
    ("effort", "words"),
    [
        (Effort(references=2), "--references would have no effect"),
        (Effort(references=2, jobs=2, versions=("a",)), "--jobs, --references, --versions would have no effect"),
        (Effort(access="file"), "--access file reads an artifact's weights"),
    ],
)
def test_effort_that_could_have_no_effect_is_refused(dataset: str, theirs: str, effort: Effort, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mobileprune.attack(predict=f"{theirs}:memory", data={"dataset": dataset}, effort=effort)


def test_the_model_of_an_artifact_is_not_asked_without_its_manifest(
    artifacts: dict[str, Path], dataset: str, tmp_path: Path
) -> None:
    """It would get images that are not normalised, answer badly, and be found to give nothing away."""
    file = artifacts["onnx"] / "model.onnx"
    with pytest.raises(UsageError, match=r"is the model of an artifact.*give the folder .*, or --mean and --std"):
        mobileprune.audit(file, data={"dataset": dataset})
    with pytest.raises(ArtifactError, match=r"takes|shape|images"):  # with them it is asked; this one takes others
        mobileprune.audit(file, data={"dataset": dataset}, mean="0.5", std="0.5")
    copy = tmp_path / "model.onnx"
    copy.write_bytes(file.read_bytes())
    with pytest.raises(ArtifactError, match=r"takes|shape|images"):
        mobileprune.audit(copy, data={"dataset": dataset})


def test_a_file_that_only_guesses_cannot_pass(dataset: str, store: Path, tmp_path: Path) -> None:
    path, ctx = linear_onnx(tmp_path / "theirs.onnx"), mobileprune.context(store)
    audited = mobileprune.audit(path, data={"dataset": dataset}, ctx=ctx, policy=Policy(max_auc=0.99))
    value = audited.to_dict()
    assert value["verdict"]["overall"] == "inconclusive"
    assert "hardly better than a guess" in value["verdict"]["sentence"]
    assert any("neither --mean nor --std was given" in note for note in value["notes"])


def test_options_of_foreign_models_are_refused_for_an_artifact(artifacts: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="--kind, --mean would have no effect"):
        mobileprune.attack(artifacts["onnx"], mean="0.5", kind="logits")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: linear_onnx(p / "a.onnx", batch=3), ArtifactError, r"batch of shape \(3, 3, 6, 6\)"),
        (lambda p: linear_onnx(p / "a.onnx", kind=2), ArtifactError, "takes 'x:0' uint8, must be one input of float32"),
        (lambda p: p / "a.onnx", ArtifactError, "no such file"),
        (lambda p: linear_onnx(p / "a.onnx").rename(p / "a.pth"), ArtifactError, "nor a model file that can be run"),
        (lambda p: linear_onnx(p / "a.onnx").rename(p / "a.ort"), ArtifactError, "a.ort"),
        (lambda p: linear_onnx(p / "a.onnx").rename(p / "a.ptl"), ArtifactError, "corrupt TorchScript-lite file"),
        (lambda p: written(p / "a.onnx", b"\x08\x01" * 40), ArtifactError, "a.onnx"),
        (lambda p: written(p / "a.ptl", b""), ArtifactError, "corrupt TorchScript-lite file"),
    ],
)
def test_files_that_cannot_be_asked(dataset: str, tmp_path: Path, make: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        mobileprune.attack(make(tmp_path), data={"dataset": dataset})


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.skipif(find_spec("ai_edge_litert") is not None, reason="LiteRT is installed")
def test_a_file_whose_runtime_is_missing_says_so(dataset: str, tmp_path: Path) -> None:
    with pytest.raises((ArtifactError, TargetUnavailableError), match=r"ai_edge_litert|ai-edge-litert"):
        mobileprune.attack(written(tmp_path / "a.tflite", b"\0" * 64), data={"dataset": dataset})


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((), (SHAPE, False, False)),
        ((None, 3, 6, 8), ((3, 6, 8), False, False)),
        ((None, 6, 8, 3), ((6, 8, 3), True, False)),
        ((1, None, None, None), ((3, 6, 8), False, True)),
        ((None, None, None, 3), ((6, 8, 3), True, False)),
    ],
)
def test_layouts(shape: Any, found: Any) -> None:
    image = SHAPE if not shape else (3, 6, 8)
    assert Signature("x", shape).layout(Path("a"), image) == found


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (None, 3, 8, 6), (None, 3, 6), (None, 1, 6, 8)])
def test_layouts_that_do_not_fit(shape: Any) -> None:
    with pytest.raises(ArtifactError, match=r"the images are \(C, H, W\)"):
        Signature("x", shape).layout(Path("a"), (3, 6, 8))


def test_the_command_line_on_a_file_and_a_function(command: Any, dataset: str, theirs: str, tmp_path: Path) -> None:
    path = linear_onnx(tmp_path / "theirs.onnx")
    (tmp_path / "p.toml").write_text("[accuracy]\nmin_test = 0.99\n[size]\nmax_bytes = 9999999\nmax_ratio = 0.5\n")
    done = command(
        "audit", path, "--dataset", dataset, "--mean", "0.5", "--std", "0.5", "--policy", tmp_path / "p.toml"
    )
    assert done.code in (3, 4), done
    for words in (
        "file theirs.onnx, outputs: logits",
        "accuracy.min_test: Test accuracy is",
        "max_ratio: It cannot be",
    ):
        assert words in done.out
    done = command("audit", "--predict", f"{theirs}:memory", "--dataset", dataset)
    assert (done.code, "verdict: fail" in done.out) == (3, True)
    done = command("attack", "--predict", f"{theirs}:memory", path)
    assert (done.code, "give one of ARTIFACT" in done.err) == (2, True)
