"""``--policy``, ``--junit`` and ``--summary``: a gate in CI, and the attacker's options on the command line."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import mobileprune
from mobileprune.audit.gates import Gates, from_dict
from mobileprune.audit.limits import RULES
from mobileprune.audit.verdict import Policy
from mobileprune.schemas import problems

pytestmark = pytest.mark.usefixtures("quick_bench")
LOOSE = "[leakage]\nmax_auc = 0.99\nmax_canary_auc = 0.99\nauc_margin = 0.9\ntpr_margin = 0.9\n"


def policy(folder: Path, text: str) -> Path:
    (folder / "policy.toml").write_text(text)
    return folder / "policy.toml"


def test_an_audit_with_gates(command: Any, artifacts: Any, tmp_path: Path) -> None:
    """Latency is not what an audit measures: it is measured because a gate asks for it."""
    path = policy(tmp_path, LOOSE + "[size]\nmax_bytes = 10\nmax_ratio = 1\n[parity]\nmax_difference = 0.1\n")
    junit, summary = tmp_path / "out" / "junit.xml", tmp_path / "out" / "summary.md"
    done = command("audit", artifacts["onnx"], "--policy", path, "--junit", junit, "--summary", summary, "--json", "-")
    value = json.loads(done.out)
    assert problems(value, "audit") == []
    outcomes = {gate["name"]: gate["outcome"] for gate in value["gates"]}
    assert outcomes == {"size.max_bytes": "fail", "size.max_ratio": "pass", "parity.max_difference": "pass"}
    assert value["bench"]["baseline"]["size_bytes"] > value["bench"]["artifact"]["size_bytes"]
    assert value["verdict"]["policy"]["auc_margin"] == 0.9
    assert (done.code, value["verdict"]["overall"]) == (3, "pass"), "the worst of verdict and gates"
    suite = ElementTree.parse(junit).getroot()
    assert suite.attrib["failures"] == "1"
    assert suite.attrib["tests"] == str(len(value["gates"]) + len(value["verdict"]["findings"]))
    assert summary.read_text().startswith("## mobileprune: fail\n\n`onnx`\n")
    shown = command("audit", artifacts["onnx"], "--policy", path)
    assert "  fail          size.max_bytes: File size in bytes is" in shown.out


def test_without_gates_over_costs_nothing_is_timed(
    command: Any, artifacts: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    api: Any = importlib.import_module("mobileprune.api")
    monkeypatch.setattr(api, "run_bench", lambda *args, **options: pytest.fail("timed"))
    path = policy(tmp_path, LOOSE + "[size]\nmax_bytes = 9_999_999\n[accuracy]\nmin_test = 0.0\n")
    done = command("audit", artifacts["onnx"], "--policy", path)
    assert done.code == 0, done


def test_flags_win_over_the_policy_file(command: Any, artifacts: Any, tmp_path: Path) -> None:
    done = command("audit", artifacts["onnx"], "--policy", policy(tmp_path, LOOSE), "--max-auc", "0.51", "--json", "-")
    found = json.loads(done.out)["verdict"]["policy"]
    assert (found["max_auc"], found["max_canary_auc"]) == (0.51, 0.99)


@pytest.mark.parametrize("verb", ["report", "export"])
def test_a_policy_file_makes_the_exit_code_of_what_reports(
    command: Any, artifacts: Any, tiny: Any, tmp_path: Path, verb: str
) -> None:
    argv = [verb, artifacts["onnx"], "-o", tmp_path / "r"] if verb == "report" else [verb, "-o", tmp_path / "r", *tiny]
    failing = policy(tmp_path, "[size]\nmax_bytes = 1\n")
    done = command(*argv, "--policy", failing, "--json", "-", "--junit", tmp_path / "j.xml")
    value = json.loads(done.out)
    assert done.code == 3
    assert problems(value, verb) == []
    assert value["audit"]["gates"][0]["outcome"] == "fail"
    assert ElementTree.parse(tmp_path / "j.xml").getroot().attrib["name"] in ("mobileprune onnx", "mobileprune r")
    assert command(*argv).code == 0, "without one a report is there to be read"


def test_a_wrong_policy_is_found_before_any_work(command: Any, artifacts: Any, tiny: Any, tmp_path: Path) -> None:
    path = policy(tmp_path, "[size]\nmax_byte = 1\n[speed]\n")
    for argv in (
        ("audit", artifacts["onnx"]),
        ("report", artifacts["onnx"]),
        ("export", *tiny, "-o", tmp_path / "out"),
    ):
        done = command(*argv, "--policy", path)
        assert (done.code, done.out) == (2, "")
        assert "did you mean 'size.max_bytes'" in done.err
        assert "unknown section 'speed'" in done.err
    assert not (tmp_path / "out").exists()


def test_the_attackers_options_reach_the_attacks(command: Any, artifacts: Any) -> None:
    argv = ["attack", artifacts["onnx"], "--json", "-", "--quiet"]
    value = json.loads(command(*argv, "--access", "labels").out)
    assert problems(value, "attack") == []
    assert value["effort"]["access"] == "labels"
    assert {m["access"] for m in value["subjects"]["artifact"]["measurements"]["all"].values()} == {"labels"}
    wide = json.loads(command(*argv, "--queries", "2", "--versions", artifacts["torchscript-lite"]).out)
    assert (wide["effort"]["queries"], wide["effort"]["versions"]) == (2, 1)
    assert wide["subjects"]["artifact"]["measurements"]["all"].keys() > {"loss", "gap"}
    done = command("attack", artifacts["onnx"], "--queries", "0", "--jobs", "0")
    assert (done.code, done.out) == (2, "")
    assert "--queries 0: must be in [1, 1000]; --jobs 0: must be at least 1" in done.err


def test_the_policy_in_the_readme_is_one_and_names_every_limit() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```toml\n(\[leakage\].*?)```", text, re.DOTALL)
    assert from_dict(tomllib.loads(block)).limits
    for name in (*(item.name for item in fields(Policy)), *(rule.partition(".")[2] for rule in RULES)):
        assert name in block


def test_a_policy_from_python(artifacts: Any, store: Path, tmp_path: Path) -> None:
    ctx = mobileprune.context(store)
    limits = Gates(limits={"size.max_bytes": 1})
    in_python = mobileprune.audit(artifacts["onnx"], ctx=ctx, policy=limits)
    in_file = mobileprune.audit(artifacts["onnx"], ctx=ctx, policy=policy(tmp_path, "[size]\nmax_bytes = 1\n"))
    assert in_python.to_dict() == in_file.to_dict()
    assert in_python.exit_code == 3
    assert mobileprune.audit(artifacts["onnx"], ctx=ctx, policy=limits.policy).gates == ()
