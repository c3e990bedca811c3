"""The summary for a pull request: a screenful, the numbers of the report, nothing that Markdown would obey."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mobileprune.audit.intervals import rate
from mobileprune.report.summary import summary
from mobileprune.report.tables import estimate

GATE = {"name": "size.max_bytes", "limit": 1, "value": 2, "outcome": "fail", "sentence": "File size is 2, must be 1."}


@pytest.fixture(scope="session")
def report(artifacts: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((artifacts["onnx"] / "report.json").read_text())
    return value


def table_after(text: str, words: str) -> list[list[str]]:
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ") and words in line)
    end = next(i for i in range(start, len(lines) + 1) if i == len(lines) or not lines[i].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[start:end]]


def test_it_says_what_the_report_says(report: dict[str, Any]) -> None:
    audit = report["audit"]
    text = summary(audit, "out", report["bench"])
    lines = text.splitlines()
    assert lines[0] == f"## mobileprune: {audit['verdict']['overall']}"
    assert lines[2] == "`out`"
    assert len(lines) < 40
    decided = table_after(text, "limit")[2:]
    assert [row[0].strip("*") for row in decided] == [f["verdict"] for f in audit["verdict"]["findings"]]
    numbers = {row[0]: row[1:] for row in table_after(text, "dense")[2:]}
    names = [name for name in ("dense", "source", "artifact") if name in audit["subjects"]]
    tested = numbers[f"test accuracy, {audit['data']['counts']['test']:,} images"]
    assert [cell.split()[0] for cell in tested] == [f"{audit['subjects'][n]['accuracy']['test']:.1%}" for n in names]
    best = [audit["subjects"][n]["strongest"]["all"]["auc"] for n in names]
    for cell, auc in zip(numbers["attack AUC, all members"], best, strict=True):
        assert cell.startswith(estimate(auc))
    assert numbers["file size, bytes"][-1] == f"{report['manifest']['size_bytes']:,}"
    assert numbers["file size, bytes"][1] == "-", "the PyTorch source is no file"


def test_a_gate_makes_the_whole_fail(report: dict[str, Any]) -> None:
    audit = {**report["audit"], "gates": [GATE]}
    text = summary(audit, "out")
    assert text.startswith("## mobileprune: fail\n")
    assert "| **fail** | size.max_bytes | File size is 2, must be 1. |" in text
    assert "file size, bytes" not in text, "without a benchmark there are no costs"


def test_a_busy_machine_is_named(report: dict[str, Any]) -> None:
    bench = {**report["bench"], "valid": False, "note": "others worked"}
    assert "latency p50, ms (not valid: the machine was busy)" in summary(report["audit"], "out", bench)


def test_a_table_of_outputs_has_no_test_accuracy(report: dict[str, Any]) -> None:
    audit = copy.deepcopy(report["audit"])
    audit["subjects"] = {"artifact": audit["subjects"]["artifact"]}
    audit["subjects"]["artifact"]["test_accuracy"] = rate(0, 0).to_dict()
    audit["data"]["counts"]["test"] = 0
    assert "| test accuracy | - |" in summary(audit, "t.csv")
    assert "|  | model |" in summary({**audit, "model": {"kind": "table"}}, "t.csv")


EVIL = "<img src=x>|[a](http://b)\n# head `code` *b* \\"


def test_nothing_of_a_stranger_is_markdown(report: dict[str, Any]) -> None:
    audit = {**report["audit"], "gates": [{**GATE, "sentence": EVIL}], "notes": [EVIL]}
    text = summary(audit, EVIL)
    assert "<img" not in text.replace(f"`{EVIL.splitlines()[0]}", "")
    assert "\n# head" not in text
    row = next(line for line in text.splitlines() if "size.max" in line)
    assert row.replace("\\|", "").count("|") == 4
    assert "\\[a\\](" in row
    name = text.splitlines()[2]
    assert name.count("`") == 2
