"""Tables of outputs, npz and csv, that tell the same as the model would; hostile ones too."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax
from support.foreign import as_csv, auc, saved, subject_of, table

import mobileprune
from mobileprune import evaluate
from mobileprune.artifact import Artifact
from mobileprune.config import Effort
from mobileprune.errors import DataError, UsageError
from mobileprune.foreign import tables
from mobileprune.foreign.answers import as_logits, detected, least
from mobileprune.runtimes import open_runtime
from mobileprune.schemas import problems


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
        ("\n".join([HEAD, "1,0,1_0,0,0"]), "line 2: logit_0 is '1_0', must be a finite number"),
        ("\n".join([HEAD, "1,0_0,0,0,0"]), "line 2: label is '0_0', must be a class number"),
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


@pytest.mark.parametrize("column", [1, 2])
def test_digits_of_other_scripts_are_no_numbers(tmp_path: Path, column: int) -> None:
    row = ["1", "0", "0", "0", "0"]
    row[column] = "\N{ARABIC-INDIC DIGIT ONE}"
    (tmp_path / "t.csv").write_text("\n".join([HEAD, ",".join(row)]), "utf-8")
    with pytest.raises(DataError, match=r"line 2: (label|logit_0) is '\N{ARABIC-INDIC DIGIT ONE}', must be"):
        tables.read(tmp_path / "t.csv")


def test_very_wide_tables(tmp_path: Path) -> None:
    """Any walk over the header for each of its names would take hours."""
    wide = ["member", "label", *(f"logit_{k}" for k in range(400_000))]
    (tmp_path / "t.csv").write_text(",".join(wide) + "\n1,0\n")
    with pytest.raises(DataError, match="line 2: 2 columns, the first line has 400002"):
        tables.read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("," * 1_000_100 + "\n")
    with pytest.raises(DataError, match="line 1: 1,000,101 columns, more than 1,000,100"):
        tables.read(tmp_path / "t.csv")


def test_tables_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small numbers count as what they become."""
    np.savez_compressed(tmp_path / "bomb.npz", **{**BASE, "outputs": np.zeros((2**17, 2), np.uint8)})
    monkeypatch.setattr(tables, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match="unfolds to 2,098,112 bytes, more than a table may have"):
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


@pytest.mark.skipif(np.finfo(np.longdouble).bits == 64, reason="there are no longer numbers here")
def test_numbers_that_overflow_where_they_are_used(tmp_path: Path) -> None:
    outputs = np.full((60, 2), np.longdouble("1e4000"))
    with pytest.raises(DataError, match=r"outputs must be numbers .*at most 64 bits"):
        tables.read(saved(tmp_path, **{**BASE, "outputs": outputs}))


def test_ids_that_are_no_text(tmp_path: Path) -> None:
    ids = np.full(60, 2**32 - 1, "<u4").view("<U1")
    with pytest.raises(DataError, match="row 0: id holds what is no text"):
        tables.read(saved(tmp_path, **BASE, id=ids))


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


@settings(max_examples=60)
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
