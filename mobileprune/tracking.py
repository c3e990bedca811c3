"""Results in a team's own experiment tracking: MLflow (extra ``mlflow``), with SQLite unless another place is named.

One run for each artifact: what it was made with as parameters, what was measured as metrics, the model file with its
manifest and the report as files. A sweep is a run with a nested one for each point. Nothing goes anywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mobileprune.artifact import MANIFEST
from mobileprune.config import SECTIONS
from mobileprune.errors import MobilepruneError, TargetUnavailableError, UsageError, unknown
from mobileprune.results import ReportResult
from mobileprune.sweep.means import numbers
from mobileprune.sweep.output import DOCUMENT, TABLE, TEXT
from mobileprune.sweep.run import SweepResult

DEFAULT_URI = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"
FILES = "mlartifacts"
"""Beside an SQLite file: where MLflow keeps files."""
PARENT, RUN_NAME = "mlflow.parentRunId", "mlflow.runName"
Values = Mapping[str, Any]


def log(result: ReportResult | SweepResult, to: str) -> str:
    """To ``mlflow`` or ``mlflow:URI``; returns the id of the run. UsageError for another logger."""
    name, _, place = to.partition(":")
    if name not in LOGGERS:
        raise unknown("logger", name, LOGGERS)
    return LOGGERS[name](result, place)


def check(to: str) -> None:
    """Say that a logger is unknown or missing before any work."""
    name, _, place = to.partition(":")
    if name not in LOGGERS:
        raise unknown("logger", name, LOGGERS)
    _client(place or DEFAULT_URI)


def _mlflow(result: ReportResult | SweepResult, place: str) -> str:
    uri = place or DEFAULT_URI
    client = _client(uri)
    try:
        if isinstance(result, SweepResult):
            return _sweep(client, result, _experiment(client, uri, f"mobileprune sweep {result.value['name']}"))
        return _report(client, result, _experiment(client, uri, "mobileprune"))
    except client.failures as error:
        raise MobilepruneError(f"cannot log to mlflow:{uri}: {error}") from error


LOGGERS: dict[str, Callable[[ReportResult | SweepResult, str], str]] = {"mlflow": _mlflow}


class _Client:
    """MLflow's client of one tracking store; unlike its other interface it keeps no state of its own."""

    def __init__(self, uri: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent anywhere
        try:
            mlflow: Any = import_module("mlflow")
            self.inner = mlflow.MlflowClient(tracking_uri=uri)
            self.entities: Any = import_module("mlflow.entities")
            self.failures = (mlflow.MlflowException, OSError)
        except ImportError as error:
            raise TargetUnavailableError(
                f"--log mlflow needs MLflow ({error}): pip install 'mobileprune[mlflow]'"
            ) from error

    def run(self, experiment: str, name: str, options: Values, measured: Values, **tags: str) -> str:
        """A finished run without files."""
        run = self.inner.create_run(experiment, tags={RUN_NAME: name, **tags})
        run_id: str = run.info.run_id
        now = run.info.start_time
        kept = [self.entities.Param(key, str(value)) for key, value in options.items()]
        found = [self.entities.Metric(k, float(v), now, 0) for k, v in measured.items() if v is not None]
        self.inner.log_batch(run_id, metrics=found, params=kept)
        return run_id


def _client(uri: str) -> _Client:
    try:
        return _Client(uri)
    except TargetUnavailableError:
        raise
    except Exception as error:  # MLflow's own, which cannot be named before it is imported
        raise UsageError(f"--log mlflow:{uri}: {error}") from error


def _experiment(client: _Client, uri: str, name: str) -> str:
    if found := client.inner.get_experiment_by_name(name):
        return str(found.experiment_id)
    database = Path(uri.removeprefix(SQLITE))
    beside = (database.resolve().parent / FILES).as_uri() if uri.startswith(SQLITE) else None
    return str(client.inner.create_experiment(name, artifact_location=beside))


def _report(client: _Client, result: ReportResult, experiment: str) -> str:
    value = result.to_dict()
    run = client.run(
        experiment,
        result.artifact.path.name,
        dict(_options(value["manifest"]["lineage"])),
        dict(_measured(value)),
        artifact_sha256=value["manifest"]["sha256"],
        verdict=value["audit"]["verdict"]["overall"],
    )
    for path in (result.artifact.model_path, result.artifact.path / MANIFEST, *result.paths.values()):
        client.inner.log_artifact(run, str(path))
    client.inner.set_terminated(run)
    return run


def _sweep(client: _Client, result: SweepResult, experiment: str) -> str:
    value = result.value
    counts = {"points": len(value["points"]), "cases": len(value["cases"]), "failed": len(value["failed"])}
    parent = client.run(experiment, value["name"], value["base"] | value["limits"], counts)
    for point in value["points"]:
        options = {**value["base"], **point["options"], "seed": point["seed"]}
        more = {f"{group}_upper": point[group]["upper"] for group in ("auc", "canary_auc") if point[group]}
        tags = {"artifact_sha256": point["artifact_sha256"], "verdict": point["verdict"], "case": point["case"]}
        run = client.run(experiment, point["id"], options, {**numbers(point), **more}, **{PARENT: parent}, **tags)
        client.inner.set_terminated(run)
    for name in (DOCUMENT, TEXT, TABLE):
        client.inner.log_artifact(parent, str(result.path / name))
    if result.artifact:
        client.inner.log_artifacts(parent, str(result.artifact.path), "artifact")
    client.inner.set_terminated(parent)
    return parent


def _options(lineage: Values) -> Iterator[tuple[str, Any]]:
    """What the artifact was made with, by option."""
    for section in SECTIONS:
        for name, value in (lineage[section] or {}).items():
            if value is not None:
                yield name, value


def _measured(value: Values) -> Iterator[tuple[str, float | None]]:
    audit, bench = value["audit"], value["bench"]
    file = audit["subjects"]["artifact"]
    for part, accuracy in file["accuracy"].items():
        yield f"{part}_accuracy", accuracy
    for group, name in {"all": "auc", "canaries": "canary_auc"}.items():
        if group in file["strongest"]:
            found = file["strongest"][group]["auc"]
            yield from ((name, found["value"]), (f"{name}_low", found["low"]), (f"{name}_high", found["high"]))
    for key in ("size_bytes", "deflated_bytes", "load_ms", "added_memory_bytes"):
        yield key, bench["artifact"][key]
    yield "latency_ms", bench["artifact"]["latency_ms"]["p50"] if bench["valid"] else None
    yield "speedup", bench["speedup"]["value"] if bench["speedup"] and bench["valid"] else None
