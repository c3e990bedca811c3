"""MLflow with a real SQLite file: parameters, metrics and files of a report and of a sweep, read back by its client."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import mobileprune
from mobileprune.errors import TargetUnavailableError
from mobileprune.files import sha256
from mobileprune.sweep.limits import Limits
from mobileprune.sweep.run import SweepOptions
from mobileprune.sweep.timing import TimingOptions

BASE = {"members": 60, "epochs": 2, "retrain_epochs": 1, "method": "magnitude"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of ``mlflow.db`` in a folder of its own, which is the current one."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    pytest.importorskip("sqlalchemy", reason="the extra `mlflow` is not installed")
    monkeypatch.chdir(tmp_path)
    return lambda: mlflow.MlflowClient(tracking_uri="sqlite:///mlflow.db")


@pytest.mark.slow
def test_a_report_is_a_run_with_its_files(
    client: Any, artifacts: Any, store: Path, command: Any, quick_bench: Any
) -> None:
    argv = ["report", artifacts["onnx"], "-o", "report", "--runs", store, "--json", "value.json", "--log", "mlflow"]
    done = command(*argv)
    assert done.code == 0
    run_id = done.out.splitlines()[-1].removeprefix("logged as run ")
    value, run = json.loads(Path("value.json").read_text()), client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["sparsity"] == "0.9"
    assert run.data.params["dataset"] == "digits"
    found = value["audit"]["subjects"]["artifact"]
    assert run.data.metrics["test_accuracy"] == found["accuracy"]["test"]
    assert run.data.metrics["canary_auc"] == found["strongest"]["canaries"]["auc"]["value"]
    assert run.data.metrics["size_bytes"] == value["manifest"]["size_bytes"]
    assert run.data.tags["artifact_sha256"] == value["manifest"]["sha256"]
    names = {each.path for each in client().list_artifacts(run_id)}
    assert names == {"manifest.json", "model.onnx", "report.html", "card.html", "report.md", "report.json"}
    (kept,) = Path("mlartifacts").rglob("model.onnx")
    assert sha256(kept) == value["manifest"]["sha256"]
    assert not Path("mlruns").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_bench", "exporter_once")
def test_a_sweep_is_a_run_with_one_for_each_point(client: Any, store: Path) -> None:
    how = SweepOptions(limits=Limits(max_bytes=10**6), timing=TimingOptions(1, 5, 0.0))
    plan = {"name": "two", "base": BASE, "grid": {"sparsity": [0.5, 0.9]}}
    result = mobileprune.sweep(plan, "out", ctx=mobileprune.context(store), how=how)
    parent = client().get_run(mobileprune.log(result, "mlflow:sqlite:///mlflow.db"))
    assert parent.data.params == {"max_bytes": "1000000", **{name: str(value) for name, value in BASE.items()}}
    runs = client().search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name: run.data.params["sparsity"] for run in runs} == {"p000": "0.5", "p001": "0.9"}
    for run in runs:
        point = next(each for each in result.value["points"] if each["id"] == run.info.run_name)
        assert run.data.tags["artifact_sha256"] == point["artifact_sha256"]
        assert run.data.metrics["auc_upper"] == point["auc"]["upper"]
        assert run.data.metrics["test_accuracy"] == point["test_accuracy"]
    names = {each.path for each in client().list_artifacts(parent.info.run_id)}
    assert names == {"artifact", "sweep.json", "sweep.md", "pareto.csv"}
    inside = {each.path for each in client().list_artifacts(parent.info.run_id, "artifact")}
    assert inside == {"artifact/manifest.json", "artifact/model.onnx"}


def test_what_cannot_be_logged_to_is_said_before_any_work(
    client: Any, command: Any, artifacts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("report", artifacts["onnx"], "--log", "wandb")
    assert (done.code, "unknown logger 'wandb'" in done.err) == (2, True)
    done = command("report", artifacts["onnx"], "--log", "mlflow:nonsense://x")
    assert (done.code, "--log mlflow:nonsense://x" in done.err) == (2, True)
    assert list(Path.cwd().iterdir()) == []


def test_without_mlflow_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, artifacts: Any, command: Any
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    done = command("report", artifacts["onnx"], "--log", "mlflow")
    assert done.code == TargetUnavailableError.exit_code == 5
    assert "pip install 'mobileprune[mlflow]'" in done.err
