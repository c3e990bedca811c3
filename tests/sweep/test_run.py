"""Whole sweeps on small data: one artifact a point, nothing done twice, errors kept apart, the same after a kill."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mobileprune
from mobileprune.artifact import Artifact
from mobileprune.engines import Engine
from mobileprune.errors import ConfigError, MobilepruneError, ParityError, UsageError
from mobileprune.schemas import problems
from mobileprune.sweep.limits import Limits
from mobileprune.sweep.output import ARTIFACT, DOCUMENT, TABLE, TEXT
from mobileprune.sweep.run import Heard, SweepOptions
from mobileprune.sweep.timing import TimingOptions

QUICK = TimingOptions(warmup_runs=1, min_runs=5, min_secs=0.0)
BASE = {"members": 60, "epochs": 2, "retrain_epochs": 1, "method": "magnitude"}
PLAN = {"name": "small", "base": BASE, "grid": {"sparsity": [0.5, 0.9], "seed": [0, 1]}}
pytestmark = pytest.mark.usefixtures("quick_bench", "exporter_once")


def hashes(folder: Path) -> dict[tuple[float, int], str]:
    points = json.loads((folder / DOCUMENT).read_text())["points"]
    return {(point["options"]["sparsity"], point["seed"]): point["artifact_sha256"] for point in points}


def steps(root: Path) -> Counter[str]:
    return Counter(path.parent.name for path in root.glob("*/[!.]*") if path.parent.name != "partial")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Heard]]:
    """The output of PLAN, its run store, and what was heard."""
    folder, heard = tmp_path_factory.mktemp("sweep"), list[Heard]()
    ctx = mobileprune.context(folder / "runs")
    how = SweepOptions(limits=Limits(max_accuracy_drop=100), timing=QUICK, heard=heard.append)
    mobileprune.sweep(PLAN, folder / "out", ctx=ctx, how=how)
    return folder / "out", folder / "runs", heard


def test_every_point_is_made_and_measured_and_what_is_shared_is_made_once(done: Any) -> None:
    out, runs, heard = done
    value = json.loads((out / DOCUMENT).read_text())
    assert problems(value, "sweep") == []
    assert (value["name"], len(value["points"]), len(value["cases"]), len(value["baselines"])) == ("small", 4, 2, 2)
    assert value["progress"] == {"done": 16, "total": 16, "seconds_left": 0.0}
    assert {point["options"]["sparsity"] for point in value["points"]} == {0.5, 0.9}
    for point in value["points"]:
        dense = next(each for each in value["baselines"] if each["id"] == point["baseline"])
        assert point["seed"] == dense["seed"]
        assert point["accuracy_drop"] == pytest.approx(100 * (dense["test_accuracy"] - point["test_accuracy"]))
        assert point["sparsity"] == pytest.approx(point["options"]["sparsity"], abs=1e-3)
        assert point["auc"]["upper"] >= point["auc"]["auc"]["value"]
    made = steps(runs)
    assert (made["train"], made["prune"], made["export"], made["measure"]) == (2, 4, 6, 6)
    assert [each.done for each in heard] == list(range(1, 17))
    assert [each.kind for each in heard][:2] == ["train", "train"]
    assert len({(each.kind, each.of) for each in heard}) == 16, "no two lines of progress read alike"


def test_a_point_is_what_an_audit_of_its_artifact_says(done: Any) -> None:
    out, runs, _ = done
    value = json.loads((out / DOCUMENT).read_text())
    audited = mobileprune.audit(out / ARTIFACT, ctx=mobileprune.context(runs))
    point = next(each for each in value["points"] if each["id"] == value["chosen"]["point"])
    assert point["artifact_sha256"] == Artifact.load(out / ARTIFACT).manifest.sha256
    assert point["verdict"] == audited.verdict.overall
    found = audited.to_dict()["subjects"]["artifact"]
    assert point["auc"]["auc"] == found["strongest"]["all"]["auc"]
    assert point["canary_auc"]["auc"] == found["strongest"]["canaries"]["auc"]
    assert (point["test_accuracy"], point["member_accuracy"]) == (
        found["accuracy"]["test"],
        found["accuracy"]["members"],
    )


def test_the_text_and_the_table_say_the_same(done: Any) -> None:
    out, _, _ = done
    value = json.loads((out / DOCUMENT).read_text())
    rows = list(csv.DictReader(io.StringIO((out / TABLE).read_text())))
    assert [row["case"] for row in rows] == [case["id"] for case in value["cases"]]
    for row, case in zip(rows, value["cases"], strict=True):
        assert float(row["size_bytes"]) == case["means"]["size_bytes"]["mean"]
        assert int(row["rank"]) == case["rank"]
    text = (out / TEXT).read_text()
    assert value["chosen"]["sentence"] in text
    assert all(f"| {case['id']} |" in text for case in value["cases"])


def test_the_same_call_again_computes_nothing_and_other_limits_choose_anew(done: Any) -> None:
    out, runs, _ = done
    before, heard = hashes(out), list[Heard]()
    how = SweepOptions(limits=Limits(max_bytes=1), timing=QUICK, heard=heard.append)
    again = mobileprune.sweep(PLAN, out, ctx=mobileprune.context(runs), how=how)
    assert hashes(out) == before
    assert all(each.reused for each in heard if each.kind != "timing")
    assert (again.exit_code, again.artifact) == (3, None)
    assert again.value["chosen"]["sentence"].startswith("No artifact of 4 keeps to every limit. The nearest is ")


@pytest.mark.long
def test_processes_make_the_same_files_and_train_nothing_twice(done: Any, tmp_path: Path) -> None:
    out, _, _ = done
    plan, how = {**PLAN, "grid": {"sparsity": [0.5, 0.9]}}, SweepOptions(Engine(jobs=2), timing=QUICK)
    again = mobileprune.sweep(plan, tmp_path / "out", ctx=mobileprune.context(tmp_path / "runs"), how=how)
    assert hashes(tmp_path / "out").items() <= hashes(out).items()
    assert len(again.value["points"]) == 2
    assert again.value["chosen"] is None
    assert steps(tmp_path / "runs")["train"] == 1


def test_a_point_that_cannot_be_made_is_told_and_the_others_go_on(done: Any, monkeypatch: Any, tmp_path: Path) -> None:
    _, runs, _ = done
    work = importlib.import_module("mobileprune.sweep.work")
    real = work.export

    def refuse(folder: Any, config: Any, context: Any) -> Any:
        if config.prune.sparsity == 0.9 and config.seed == 1 and config.export.sparse_format != "dense":
            raise ParityError("not the same")
        return real(folder, config, context)

    monkeypatch.setattr(work, "export", refuse)
    heard: list[Heard] = []
    how = SweepOptions(timing=QUICK, heard=heard.append)
    result = mobileprune.sweep(PLAN, tmp_path / "out", ctx=mobileprune.context(runs), how=how)
    assert result.value["failed"] == [{"options": {"sparsity": 0.9, "seed": 1}, "error": "not the same"}]
    assert len(result.value["points"]) == 3
    assert problems(result.value, "sweep") == []
    assert [each.error for each in heard if each.error] == ["not the same"]
    assert "not the same" in (tmp_path / "out" / TEXT).read_text()

    monkeypatch.setattr(work, "prune", lambda *_: (_ for _ in ()).throw(MobilepruneError("broken")))
    with pytest.raises(MobilepruneError, match="no point could be made: broken"):
        mobileprune.sweep(PLAN, tmp_path / "none", ctx=mobileprune.context(runs), how=how)


def test_what_cannot_work_is_said_before_any_work(tmp_path: Path) -> None:
    ctx = mobileprune.context(tmp_path / "runs")
    grid = {"method": ["mia", "none"], "pattern": ["unstructured", "blok"], "target": ["onnx"]}
    with pytest.raises(ConfigError, match=r"method none.*unknown.*'none'") as info:
        mobileprune.sweep({"grid": grid}, tmp_path / "out", ctx=ctx)
    assert len(info.value.problems) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_output_of_something_else_is_not_written_over(done: Any, tmp_path: Path) -> None:
    out, runs, _ = done
    ctx, other = mobileprune.context(runs), {**PLAN, "grid": {"sparsity": [0.5], "seed": [0]}}
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="not the output of a sweep"):
        mobileprune.sweep(other, tmp_path, ctx=ctx)
    with pytest.raises(UsageError, match=r"holds another sweep; .*--force"):
        mobileprune.sweep(other, out, ctx=ctx)


def test_a_timing_of_a_busy_machine_is_taken_again_and_a_valid_one_is_not(done: Any, monkeypatch: Any) -> None:
    _, runs, _ = done
    timing = importlib.import_module("mobileprune.sweep.timing")
    real, calls = timing.latency, []

    def measured(valid: bool) -> Any:
        def latency(*args: Any, **options: Any) -> Any:
            calls.append(valid)
            found = real(*args, **options)
            return type(found)(**{**vars(found), "valid": valid, "note": "" if valid else "busy"})

        return latency

    (path, *_) = sorted(runs.glob("export/*/artifact"))
    artifact = Artifact.load(path)
    ctx = mobileprune.context(runs)
    options = TimingOptions(warmup_runs=0, min_runs=6, min_secs=0.0)
    for valid in (False, False, True, True):
        monkeypatch.setattr(timing, "latency", measured(valid))
        found = timing.timed(artifact, artifact, options, ctx)
        assert found["valid"] or calls[-1] is False
    assert calls == [False, False, True]


def test_a_worker_of_another_mobileprune_is_refused(done: Any, monkeypatch: Any, tmp_path: Path) -> None:
    work = importlib.import_module("mobileprune.sweep.work")
    monkeypatch.setattr(work, "source_digest", lambda: "other")
    with pytest.raises(MobilepruneError, match="another version of mobileprune"):
        mobileprune.sweep(
            PLAN, tmp_path / "out", ctx=mobileprune.context(tmp_path / "runs"), how=SweepOptions(timing=QUICK)
        )


def test_a_result_that_is_not_in_the_store_means_that_it_is_not_shared(monkeypatch: Any, tmp_path: Path) -> None:
    run = importlib.import_module("mobileprune.sweep.run")
    elsewhere = mobileprune.context(tmp_path / "elsewhere")
    monkeypatch.setattr(run, "do", lambda job, **_: run.Finished({}, "export/elsewhere/artifact", True, 0.0))
    with pytest.raises(MobilepruneError, match="--runs must be a folder that all workers share"):
        mobileprune.sweep(PLAN, tmp_path / "out", ctx=elsewhere, how=SweepOptions(timing=QUICK))


def test_the_command_writes_its_document_and_ends_with_3_when_nothing_fits(
    command: Any, done: Any, tmp_path: Path
) -> None:
    _, runs, _ = done
    file = tmp_path / "small.toml"
    file.write_text(
        '[base]\nmembers = 60\nepochs = 2\nretrain_epochs = 1\nmethod = "magnitude"\n'
        "[grid]\nsparsity = [0.5, 0.9]\nseed = [0, 1]\n[limits]\nmax_bytes = 1\n"
    )
    argv = ["sweep", file, "-o", tmp_path / "out", "--runs", runs, "--num-runs", 5, "--min-secs", 0, "--warmup-runs", 1]
    ended = command(*argv, "--json", "-")
    value = json.loads(ended.out)
    assert (ended.code, value["limits"], problems(value, "sweep")) == (3, {"max_bytes": 1}, [])
    assert json.loads((tmp_path / "out" / DOCUMENT).read_text()) == value
    assert "time" in ended.err
    ended = command(*argv, "--max-bytes", 10**6, "--prefer", "auc")
    assert ended.code == 0
    assert "Pareto front" in ended.out
    assert Artifact.load(tmp_path / "out" / ARTIFACT)
    assert command(*argv, "--jobs", 0).code == 2
    assert command(*argv, "--max-auc", 0.3).code == 2
    assert command(*argv, "--address", "auto").code == 2


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_to_the_same_files(done: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Killed when the first point is there, interrupted later, then let run to its end."""
    out, _, _ = done
    (tmp_path / "small.toml").write_text(
        '[base]\nmembers = 60\nepochs = 2\nretrain_epochs = 1\nmethod = "magnitude"\n[grid]\nsparsity = [0.5, 0.9]\n'
    )
    line = [sys.executable, "-m", "mobileprune", "sweep", "small.toml", "-o", "out", "--runs", "runs"]
    line += ["--num-runs", "5", "--min-secs", "0", "--warmup-runs", "1"]

    def until(pattern: str, sent: signal.Signals) -> int:
        heed = signal.SIG_DFL  # whoever runs the tests in the background ignores SIGINT, and children inherit that
        process = subprocess.Popen(
            line, cwd=tmp_path, stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, heed)
        )
        try:
            while not list(tmp_path.glob(pattern)):
                assert process.poll() is None, "ended before it was stopped"
                time.sleep(0.01)
            process.send_signal(sent)
            return process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()

    assert until("runs/train/[!.]*", signal.SIGKILL) == -signal.SIGKILL
    assert until("runs/measure/[!.]*", signal.SIGINT) == 130
    assert steps(tmp_path / "runs")["measure"] < 3
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ)
    value = json.loads((tmp_path / "out" / DOCUMENT).read_text())
    assert len(value["points"]) == 2
    assert hashes(tmp_path / "out").items() <= hashes(out).items()
    assert steps(tmp_path / "runs")["train"] == 1
    assert "artifacts of 2 cases" in ended.stdout
    leftovers = [
        path for path in (tmp_path / "runs").rglob("*") if path.name.startswith(".") or path.parent.name == "partial"
    ]
    assert leftovers == []
