"""Models that we did not make: functions, plain model files in their runtimes, tables of outputs; hostile ones too."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

import mobileprune
from mobileprune import evaluate
from mobileprune.artifact import Artifact
from mobileprune.config import Effort
from mobileprune.errors import ArtifactError, DataError, TargetUnavailableError, UsageError
from mobileprune.foreign import tables
from mobileprune.foreign.answers import as_logits, detected, least
from mobileprune.foreign.models import of_file
from mobileprune.foreign.signature import Signature
from mobileprune.runtimes import open_runtime
from mobileprune.schemas import problems

COUNT, CLASSES = 90, 4
SHAPE = (3, 6, 6)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (COUNT, *SHAPE), np.uint8)
LABELS = RNG.integers(0, CLASSES, COUNT)
MEMBER = np.arange(COUNT) < 40
WEIGHT = RNG.normal(size=(int(np.prod(SHAPE)), CLASSES)).astype(np.float32)
MODULE = """
import numpy as np
known = np.load({path!r})
x, y = known["images"][known["member"]] / 255, known["labels"][known["member"]]

def memory(images):
    assert images.dtype == np.float32 and images.shape[1:] == (3, 6, 6) and 0 <= images.min() <= images.max() <= 1
    near = ((images[:, None] - x[None]) ** 2).sum((2, 3, 4)).argmin(1)
    sure = np.where(((images - x[near]) ** 2).sum((1, 2, 3)) < 1e-3, 0.97, 0.4)[:, None]
    return np.where(np.arange(4) == y[near][:, None], sure, (1 - sure) / 3)

def of_the_batch(images):
    return np.stack([images.mean((1, 2, 3)), np.full(len(images), -images.mean()), *np.zeros((2, len(images)))], 1)

def two(images):
    return np.full((len(images), 2), -1.0)

def twelve(images):
    return np.tile(np.arange(12.0), (len(images), 1))

def flat(images):
    return np.zeros(len(images))

def unfinished(images):
    return np.full((len(images), 4), np.nan)

def broken(images):
    raise RuntimeError("no GPU\\nhere")

number = 3
"""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "stated.npz"
    np.savez(path, images=PIXELS, labels=LABELS, member=MEMBER)
    return f"npz:{path}"


@pytest.fixture(scope="session")
def theirs(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The prefix of the functions in a module of the user's."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "their_model.py").write_text(MODULE.format(path=dataset.removeprefix("npz:")))
    sys.path.insert(0, str(folder))
    yield "their_model"
    sys.path.remove(str(folder))


def linear_onnx(path: Path, *, last: bool = False, batch: int | str = "N", name: str = "x:0", kind: int = 1) -> Path:
    """(x - 0) W of flattened images, as a stranger's exporter names it; ``last``: channels come last."""
    size = (*SHAPE[1:], SHAPE[0]) if last else SHAPE
    weight = WEIGHT.reshape(*SHAPE, CLASSES).transpose(1, 2, 0, 3).reshape(-1, CLASSES) if last else WEIGHT
    nodes = [
        helper.make_node("Cast", [name], ["c"], to=1),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, [batch, *size])],
        [helper.make_tensor_value_info("y", 1, None)],
        initializer=[numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def linear_ptl(path: Path) -> Path:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(WEIGHT.shape[0], CLASSES, bias=False)).eval()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(WEIGHT.T))
    traced = torch.jit.trace(module, torch.zeros(1, *SHAPE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.freeze(traced)._save_for_lite_interpreter(str(path))
    return path


def linear_ort(path: Path) -> Path:
    import onnxruntime

    settings_ = onnxruntime.SessionOptions()
    settings_.optimized_model_filepath = str(path)
    settings_.add_session_config_entry("session.save_model_format", "ORT")
    settings_.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    source = linear_onnx(path.with_suffix(".onnx"))
    onnxruntime.InferenceSession(str(source), settings_, providers=["CPUExecutionProvider"])
    return path


def expected(pixels: np.ndarray[Any, Any], mean: float = 0.0, std: float = 1.0) -> np.ndarray[Any, Any]:
    return ((pixels.astype(np.float64) - mean) / std).reshape(len(pixels), -1) @ WEIGHT


def auc(members: np.ndarray[Any, Any], nonmembers: np.ndarray[Any, Any]) -> float:
    """The slow obvious one."""
    ranks = rankdata([*members, *nonmembers])
    return (ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(nonmembers))


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
    assert {"loss", "gap"} <= subject["measurements"]["all"].keys()
    again = mobileprune.attack(path, data={"dataset": dataset}, ctx=ctx)
    assert again.to_dict() == value
    assert ctx.store.done[-1].reused, "a file is asked once"
    other = mobileprune.attack(path, data={"dataset": dataset}, ctx=ctx, mean="0.5", std="0.01", kind="logits")
    assert not ctx.store.done[-1].reused, "another preprocessing is another model"
    assert other.to_dict()["subjects"] != value["subjects"]


def test_a_function_that_knows_its_members_by_heart_fails_the_audit(dataset: str, theirs: str, store: Path) -> None:
    ctx = mobileprune.context(store)
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
    assert "deployment" not in value["verdict"]["sentence"]
    assert all("evaluation mode" not in note for note in value["notes"])
    assert list((store / "partial").glob("*")) == []
    before = sum(1 for _ in store.rglob("step.json"))
    memory = getattr(sys.modules["their_model"], "memory")  # noqa: B009
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
        (Effort(jobs=2, versions=("a",)), "--jobs, --versions would have no effect"),
        (Effort(access="file"), "--access file reads an artifact's weights"),
    ],
)
def test_effort_that_could_have_no_effect_is_refused(dataset: str, theirs: str, effort: Effort, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mobileprune.attack(predict=f"{theirs}:memory", data={"dataset": dataset}, effort=effort)


def test_options_of_strangers_are_refused_for_an_artifact(artifacts: dict[str, Path]) -> None:
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


# Tables


def table(count: int = 120, classes: int = 3, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, classes, count), np.arange(count) % 2 == 0
    outputs = rng.normal(size=(count, classes)) + 2.0 * member[:, None] * (np.arange(classes) == labels[:, None])
    return {"outputs": outputs, "labels": labels, "member": member}


def saved(folder: Path, **arrays_: Any) -> Path:
    np.savez(folder / "t.npz", **arrays_)
    return folder / "t.npz"


def as_csv(path: Path, values: dict[str, Any], prefix: str) -> Path:
    """As a spreadsheet writes it: with a byte-order mark, its own end of lines, and a column of its own."""
    classes = values["outputs"].shape[1]
    lines = [",".join(["row", "label", *(f"{prefix}{k}" for k in reversed(range(classes))), "member"])]
    for i, row in enumerate(values["outputs"]):
        cells = [repr(float(v)) for v in row[::-1]]
        lines.append(",".join([str(i), str(values["labels"][i]), *cells, "TRUE" if values["member"][i] else "false"]))
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    return path


def subject_of(path: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = mobileprune.attack(outputs=path, **options).to_dict()["subjects"]["artifact"]
    return found


def test_a_table_is_attacked_as_its_logits_say(tmp_path: Path) -> None:
    values = table()
    subject = subject_of(saved(tmp_path, **values, canary=np.arange(120) % 5 == 0))
    loss = log_softmax(values["outputs"], axis=1)[np.arange(120), values["labels"]]
    found = subject["measurements"]["all"]["loss"]["auc"]["value"]
    assert found == pytest.approx(auc(loss[values["member"]], loss[~values["member"]]), abs=1e-12)
    assert subject["measurements"]["canaries"]["loss"]["members"] == 12
    assert "test" not in subject["accuracy"]
    right = (values["outputs"].argmax(1) == values["labels"])[values["member"]].mean()
    assert subject["accuracy"]["members"] == pytest.approx(right)


def test_the_answers_of_an_artifact_are_judged_as_the_artifact(
    artifacts: dict[str, Path], store: Path, tmp_path: Path
) -> None:
    artifact, ctx = Artifact.load(artifacts["onnx"]), mobileprune.context(store)
    splits = evaluate.audit_data(artifact, {})
    asked = np.concatenate([splits.members, splits.held_out])
    outputs = open_runtime(artifact).predict(splits.images.pixels[asked].astype(np.float32) / np.float32(255))
    member = np.arange(len(asked)) < len(splits.members)
    path = saved(tmp_path, outputs=outputs, labels=splits.labels[asked], member=member, canary=splits.canary[asked])
    found = mobileprune.attack(outputs=path, ctx=ctx).to_dict()["subjects"]["artifact"]["measurements"]
    expected_ = mobileprune.attack(artifacts["onnx"], ctx=ctx).to_dict()["subjects"]["artifact"]["measurements"]
    assert found.keys() == expected_.keys()
    for group, by_attack in found.items():
        assert {"gap", "loss", "confidence", "entropy", "modified_entropy"} <= by_attack.keys()
        for name, measurement in by_attack.items():
            assert measurement == expected_[group][name]


def test_csv_npz_logits_and_probabilities_agree(tmp_path: Path) -> None:
    values = table()
    chances = {**values, "outputs": softmax(values["outputs"], axis=1)}
    paths = {
        "npz": saved(tmp_path, **values),
        "csv": as_csv(tmp_path / "logits.csv", values, "logit_"),
        "p": as_csv(tmp_path / "p.csv", chances, "p_"),
    }
    found = {name: subject_of(path)["measurements"]["all"] for name, path in paths.items()}
    assert found["csv"] == found["npz"]
    for name, measurement in found["p"].items():
        assert measurement["auc"]["value"] == pytest.approx(found["npz"][name]["auc"]["value"], abs=1e-9)
        assert measurement["access"] != "logits"


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_a_table_of_labels_allows_the_gap_attack_alone(tmp_path: Path, suffix: str) -> None:
    values = table()
    predicted = values["outputs"].argmax(1)
    path = tmp_path / "t.csv"
    if suffix == "npz":
        path = saved(tmp_path, predicted=predicted, labels=values["labels"], member=values["member"])
    else:
        rows = [f"{p},{y},{int(m)}" for p, y, m in zip(predicted, values["labels"], values["member"], strict=True)]
        path.write_text("\n".join(["predicted,label,member", *rows]))
    result = mobileprune.attack(outputs=path).to_dict()
    assert result["model"]["outputs"] == "labels"
    subject = result["subjects"]["artifact"]
    assert {m["access"] for m in subject["measurements"]["all"].values()} == {"labels"}
    right, member = predicted == values["labels"], values["member"]
    gap = 0.5 + (right[member].mean() - right[~member].mean()) / 2
    assert subject["measurements"]["all"]["gap"]["auc"]["value"] == pytest.approx(gap, abs=1e-12)
    assert "loss" in subject["skipped"]


def test_effort_limits_what_of_a_table_is_seen(tmp_path: Path) -> None:
    subject = subject_of(saved(tmp_path, **table()), effort=Effort(access="top-k"))
    assert {m["access"] for m in subject["measurements"]["all"].values()} <= {"labels", "top-k"}
    with pytest.raises(UsageError, match="one answer an example"):
        mobileprune.attack(outputs=tmp_path / "t.npz", effort=Effort(queries=10))
    with pytest.raises(UsageError, match="--dataset would have no effect"):
        mobileprune.attack(outputs=tmp_path / "t.npz", data={"dataset": "digits"})


def test_a_table_that_tells_nothing_apart_passes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = {
        "outputs": rng.normal(size=(4000, 5)),
        "labels": rng.integers(0, 5, 4000),
        "member": rng.random(4000) < 0.5,
    }
    audited = mobileprune.audit(outputs=saved(tmp_path, **values))
    assert (audited.verdict.overall, audited.exit_code) == ("pass", 0)
    assert audited.to_dict()["verdict"]["findings"][0]["question"] == "ceiling"


BASE = table(60)
WRONG = {
    "no labels": ({"labels": None}, "has no labels; needs labels, member"),
    "nothing said": ({"member": None, "outputs": None}, r"has no member, outputs \(or predicted\)"),
    "not finite": ({"outputs": np.where(np.eye(60, 3, -4) > 0, np.inf, 0)}, "row 4: outputs must be finite, got inf"),
    "one class": ({"outputs": BASE["outputs"][:, :1]}, r"outputs must be numbers of shape \(examples, classes >= 2\)"),
    "text": ({"outputs": BASE["outputs"].astype(str)}, "outputs must be numbers"),
    "complex": ({"outputs": BASE["outputs"] * 1j}, "outputs must be numbers"),
    "shorter": ({"outputs": BASE["outputs"][:5]}, r"outputs has shape \(5, 3\), labels have 60 rows"),
    "column": ({"member": BASE["member"][:, None]}, "member has shape"),
    "label too large": ({"labels": np.arange(60) // 15}, "row 45: label 3, but there are 3 outputs"),
    "label negative": (
        {"labels": np.where(np.arange(60) == 7, -1, 0)},
        r"row 7: labels must lie in \[0, 1,000,000\), got -1",
    ),
    "float labels": ({"labels": BASE["labels"] * 1.0}, "labels must be whole numbers, got float64"),
    "membership of 2": ({"member": np.arange(60) % 3}, "row 2: member must be true or false, got 2"),
    "all members": ({"member": np.ones(60, bool)}, "60 members and 0 non-members; fewer than 20"),
    "twice": ({"id": np.arange(60) % 59}, "row 59: id '0' is also that of .*row 0"),
    "objects": ({"id": np.array([{}] * 60)}, "not a readable .npz file, or one of pickled objects"),
    "scalar": ({"labels": np.int64(3)}, "has shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_hostile_arrays(tmp_path: Path, case: str) -> None:
    changes, words = WRONG[case]
    values = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    with pytest.raises(DataError, match=words):
        tables.read(saved(tmp_path, **values))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0.5, 0.5, 0.01], "row 8: probabilities must not be negative and must sum to 1 within 0.001, .* sum to 1.01:"),
        ([1.2, -0.2, 0.0], "row 8: .* the least is -0.2"),
    ],
)
def test_probabilities_that_are_none(tmp_path: Path, row: list[float], words: str) -> None:
    outputs = np.full((60, 3), 1 / 3)
    outputs[8] = row
    path = saved(tmp_path, **{**BASE, "outputs": outputs})
    assert tables.read(path, "logits").kind == "logits"
    if min(row) < 0:
        assert tables.read(path).kind == "logits"
    else:
        with pytest.raises(
            DataError, match=r"row 8: all outputs lie in .* but these sum to 1\.01, .* or say --kind logits"
        ):
            tables.read(path)
    with pytest.raises(DataError, match=words):
        tables.read(path, "probabilities")


ROWS = [f"{i % 2},{i % 3},0.{i},0.5,-1" for i in range(60)]
HEAD = "member,label,logit_0,logit_1,logit_2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no labels, member, outputs"),
        ("\x00\xff\xfe", "t.csv"),
        ("\n".join([HEAD, *ROWS[:3], "1,0,nan,0,0"]), "line 5: logit_0 is 'nan', must be a finite number"),
        ("\n".join([HEAD, *ROWS[:3], "", "1,0,1e999,0,0"]), "line 6: logit_0 is '1e999'"),
        ("\n".join([HEAD, "1,0,0,0"]), "line 2: 4 columns, the first line has 5"),
        ("\n".join([HEAD, "yes,0,0,0,0"]), "line 2: member is 'yes', must be 1, true, 0 or false"),
        ("\n".join([HEAD, "1,-1,0,0,0"]), "line 2: label is '-1', must be a class number"),
        ("\n".join([HEAD, "1,1.0,0,0,0"]), "line 2: label is '1.0'"),
        ("\n".join([HEAD, "1,99999999999999999999,0,0,0"]), "must be a class number"),
        ("\n".join([HEAD, *ROWS[:30], "1,3,0,0,0", *ROWS[31:]]), "line 32: label 3, but there are 3 outputs"),
        ("\n".join([HEAD, f'1,0,0,0,"{"9" * 200_000}"']), "not a CSV file"),
        ("\n".join([HEAD, '1,0,0,0,"0']), "not a CSV file"),
        ("member,label,logit_0,logit_2\n1,0,0,0", "line 1: column logit_1 is missing; classes are counted from 0"),
        ("member,member,label,predicted\n1,1,0,0", "line 1: column 'member' is there twice"),
        ("member,label,logit_0,p_0\n1,0,0,0", "line 1: has several of logit_0, p_0 and predicted"),
        ("member,label,logit_1\n1,0,0", r"has no outputs \(or predicted\)"),
        ("label,predicted\n1,0", "has no member"),
        (
            "\n".join(["member,label,p_0,p_1", *(f"{i % 2},0,0.5,0.5" for i in range(50)), "1,0,0.5,0.6"]),
            "line 52: prob",
        ),
        ("\n".join(["member,label,predicted", *(f"{i % 2},0,0" for i in range(50)), "1,0,700000"]), "line 2: class|^"),
    ],
)
def test_hostile_text(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    if words.endswith("|^"):
        assert tables.read(tmp_path / "t.csv").logits.shape == (51, 700_001)
        return
    with pytest.raises(DataError, match=words):
        tables.read(tmp_path / "t.csv")


def test_tables_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as raw,
    ):
        for _ in range(17):
            raw.write(b"\0" * 2**16)
    monkeypatch.setattr(tables, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match="unfolds to 1,114,112 bytes, more than a table may have"):
        tables.read(tmp_path / "bomb.npz")
    monkeypatch.setattr(tables, "MAX_TEXT_BYTES", 10)
    (tmp_path / "t.csv").write_text("member,label,predicted\n")
    with pytest.raises(DataError, match="23 bytes are more than such a table may have"):
        tables.read(tmp_path / "t.csv")


def test_an_array_that_lies_about_its_size(tmp_path: Path) -> None:
    """The header asks for 64 TiB, the file has 8 bytes of them."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (8796093022208, 1), }"
    content = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + b"\0" * 8
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("outputs.npy", content)
    with pytest.raises(DataError, match=r"not a readable \.npz file"):
        tables.read(tmp_path / "t.npz")


@pytest.mark.parametrize("name", ["none.npz", "t.txt", "cut.npz"])
def test_what_is_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.txt").write_text("1")
    (tmp_path / "cut.npz").write_bytes(saved(tmp_path, **BASE).read_bytes()[:-40])
    with pytest.raises(DataError, match=r"no such file|an \.npz or a \.csv file|not a readable \.npz"):
        tables.read(tmp_path / name)


def test_a_kind_that_the_columns_contradict(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "t.csv", BASE, "logit_")
    with pytest.raises(DataError, match="its columns say that they are logits, not probabilities"):
        tables.read(path, "probabilities")
    assert tables.read(path).told
    assert not tables.read(saved(tmp_path, **BASE)).told


shapes = st.tuples(st.integers(0, 7), st.integers(2, 5))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(arrays(np.float64, shapes, elements=st.floats(-30, 30)), st.sampled_from([np.float16, np.float32, np.float64]))
def test_softmax_of_the_logits_gives_the_probabilities_back(values: Any, dtype: Any) -> None:
    p = softmax(values, axis=1).astype(dtype)
    kind = "probabilities"
    if np.abs(p.sum(1, dtype=np.float64) - 1).max(initial=0) <= 1e-3:  # float16 is further off at times
        assert detected(p, str) == kind
        back = softmax(as_logits(p, kind, str), axis=1)
        assert np.allclose(back, p, atol=2e-3)
        order = as_logits(p, kind, str)
        assert all(
            np.array_equal(np.argsort(a, kind="stable"), np.argsort(b, kind="stable"))
            for a, b in zip(order, p, strict=True)
        )


@pytest.mark.parametrize(
    ("dtype", "power"), [(np.float16, -24), (np.float32, -149), (np.float64, -1074), (np.int64, -1074)]
)
def test_a_probability_of_zero_counts_as_the_least_of_its_type(dtype: Any, power: int) -> None:
    assert least(np.dtype(dtype)) == 2.0**power
    found = as_logits(np.array([[0, 1]], dtype), "probabilities", str)
    assert found.tolist() == [[pytest.approx(power * np.log(2)), 0.0]]


# The command line


def test_the_command_line_on_a_table(command: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, **table(400))
    done = command("attack", "--outputs", path, "--json", tmp_path / "result.json")
    value = json.loads((tmp_path / "result.json").read_text())
    assert done.code == 0
    assert problems(value, "foreign") == []
    for words in ("table t.npz, outputs: logits", "accuracy on members", "AUC, model", "outputs are taken as logits"):
        assert words in done.out, done.out
    judged = command("audit", "--outputs", path, "--kind", "logits", "--max-auc", "0.55", "--json", "-")
    value = json.loads(judged.out)
    assert (judged.code, value["verdict"]["overall"]) == (3, "fail")
    assert value["verdict"]["policy"]["max_auc"] == 0.55
    assert problems(value, "foreign") == []


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
