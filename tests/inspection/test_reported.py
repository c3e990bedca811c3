"""What reports beside files measured, side by side: only where a report is about that very file."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobileprune.inspection import compare, look
from mobileprune.inspection.reported import REPORT, caveats, report_of
from mobileprune.report.tables import measured_rows
from mobileprune.schemas import problems

LIGHT = """
import sys
sys.modules.update(dict.fromkeys(["torch", "scipy", "sklearn"]))  # importing one of them raises ImportError
from mobileprune.cli.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def report(artifacts: dict[str, Path]) -> dict[str, Any]:
    return report_of(look(artifacts["onnx"]))


@pytest.fixture
def copied(artifacts: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifacts["onnx"], tmp_path / "copied"))


def test_both_reports_are_shown_side_by_side(artifacts, report) -> None:
    value = compare(artifacts["onnx"], artifacts["torchscript-lite"]).to_dict()
    assert problems({"schema": "mobileprune.compare/1", **value}, "compare") == []
    assert value["unread"] == [None, None]
    subject = report["audit"]["subjects"]["artifact"]
    assert value["measured"]["test_accuracy"][0] == subject["accuracy"]["test"]
    for key, group in (("auc", "all"), ("canary_auc", "canaries")):
        assert value["measured"][key][0] == subject["strongest"][group]["auc"]
    assert value["measured"]["latency_p50_ms"][0] == report["bench"]["artifact"]["latency_ms"]["p50"]
    words = [row[0].strip() for row in measured_rows(value)]
    assert words[1:5] == ["verdict", "test accuracy", "attack AUC, all members", "strongest attack"]
    assert words[-1] == "latency p50"


def test_it_takes_no_torch(artifacts) -> None:
    line = [sys.executable, "-c", LIGHT, "compare", artifacts["onnx"], artifacts["onnx"]]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "measured, by the report of each" in done.stdout


def without(folder: Path) -> None:
    (folder / REPORT).unlink()


def of_another_file(folder: Path) -> None:
    value = json.loads((folder / REPORT).read_text())
    value["manifest"]["sha256"] = "0" * 64
    (folder / REPORT).write_text(json.dumps(value))


def damaged(folder: Path) -> None:
    (folder / REPORT).write_text("{")


def altered(folder: Path) -> None:
    value = json.loads((folder / REPORT).read_text())
    del value["audit"]["subjects"]["artifact"]
    (folder / REPORT).write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without, "no report.json beside model.onnx: `mobileprune report` writes one"),
        (of_another_file, "the report.json beside model.onnx is about another file: report again"),
        (damaged, "report.json is not JSON"),
        (altered, "report.json is not what this mobileprune writes"),
    ],
)
def test_why_a_side_has_none_is_said(command, artifacts, copied, change: Callable[[Path], None], why: str) -> None:
    change(copied)
    value = compare(copied, artifacts["onnx"]).to_dict()
    assert problems({"schema": "mobileprune.compare/1", **value}, "compare") == []
    assert why in value["unread"][0]
    assert value["unread"][1] is None
    assert value["measured"]["test_accuracy"][0] is None
    assert value["caveats"] == []
    assert [row[1] for row in measured_rows(value)[1:]] == ["-"] * (len(measured_rows(value)) - 1)
    assert f"nothing measured of A: {why}" in command("compare", copied, artifacts["onnx"]).out


def test_what_else_sets_reports_apart_is_said(report) -> None:
    quiet, other = copy.deepcopy(report), copy.deepcopy(report)
    for value in (quiet, other):
        value["bench"] |= {"valid": True, "note": ""}
    assert list(caveats(quiet, quiet)) == []
    other["audit"]["data"]["split_sha256"] = "0" * 64
    other["audit"]["effort"] |= {"references": 8, "jobs": 2}
    other["bench"] |= {"num_threads": 4, "valid": False, "note": "busy"}
    assert list(caveats(quiet, other)) == [
        "accuracy and attacks are of other images",
        "the attackers went differently far: references 0 and 8",
        "latency is of other machines, versions or numbers of threads",
        "the latency of B is not valid: busy",
    ]
