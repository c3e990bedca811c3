"""The Python API: one function a verb. Values in, values out, nothing printed.

>>> import mobileprune  # doctest: +SKIP
>>> result = mobileprune.export("out", sparsity=0.9, target="onnx")  # doctest: +SKIP
>>> result.audit.verdict.overall  # doctest: +SKIP
'fail'
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mobileprune import evaluate, pipeline
from mobileprune.artifact import Artifact, write_artifact
from mobileprune.audit.verdict import Policy
from mobileprune.bench import BenchResult
from mobileprune.bench import bench as run_bench
from mobileprune.config import SECTIONS, Config, from_dict
from mobileprune.errors import ArtifactError, MobilepruneError, UsageError
from mobileprune.evaluate import AttackResult, AuditResult
from mobileprune.export import target
from mobileprune.files import atomic_folder
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline import Context
from mobileprune.pruning import method
from mobileprune.report import write_report
from mobileprune.runs import RunStore, StepResult

Where = str | Path


@dataclass(frozen=True)
class ReportResult:
    """Everything measured on one artifact; ``paths`` are the written report files."""

    artifact: Artifact
    bench: BenchResult
    audit: AuditResult
    steps: tuple[StepResult, ...]
    paths: dict[str, Path]

    def to_dict(self) -> dict[str, Any]:
        return {
            "artifact": str(self.artifact.path),
            "manifest": inspect(self.artifact.path),
            "bench": self.bench.to_dict(),
            "audit": self.audit.to_dict(),
            "steps": [step.to_dict() for step in self.steps],
            "report": {kind: str(path) for kind, path in self.paths.items()},
        }


def configure(config: Config | None = None, **options: Any) -> Config:
    """``config`` with flat ``options`` laid over it: ``configure(sparsity=0.9, target="onnx", seed=1)``."""
    owner = {f.name: name for name, section in SECTIONS.items() for f in fields(section)}
    nested: dict[str, Any] = {}
    for key, value in options.items():
        if key == "seed":
            nested["seed"] = value
        elif key in owner:
            nested.setdefault(owner[key], {})[key] = value
        else:
            raise UsageError(f"unknown option {key!r}: choose from seed, {', '.join(sorted(owner))}")
    return from_dict(nested, config)


def context(runs: Where | None = None) -> Context:
    return Context(RunStore(Path(runs)) if runs else RunStore())


def train(output: Where, *, config: Config, ctx: Context, force: bool = False) -> ModelFolder:
    """Train the dense model and copy its folder to ``output``."""
    return _copy(pipeline.train(config, ctx), Path(output), force)


def prune(
    output: Where, source: Where | None = None, *, config: Config, ctx: Context, force: bool = False
) -> ModelFolder:
    """Prune ``source`` (a model folder; trained first when None) into the model folder ``output``."""
    method(config.prune.method)
    dense = pipeline.train(config, ctx) if source is None else pipeline.adopt(ModelFolder.load(Path(source)), ctx)
    return _copy(pipeline.prune_model(dense, config, ctx), Path(output), force)


def export(
    output: Where,
    source: Where | None = None,
    *,
    config: Config | None = None,
    ctx: Context | None = None,
    policy: Policy | None = None,
    force: bool = False,
    **options: Any,
) -> ReportResult:
    """The whole way: train and prune what is missing, export, check, benchmark, attack, report.

    ``source``: a model folder to export as it is. ``options`` as in :func:`configure`. Raises
    ParityError when the exported file computes something else than the model; ``output`` is then not written.
    """
    ctx, config = ctx or context(), configure(config, **options)
    chosen, output = target(config.export.target), Path(output)
    _check_free(output, force)
    if source is None:
        method(config.prune.method)
        dense = pipeline.train(config, ctx)
        folder = pipeline.prune_model(dense, config, ctx)
        pipeline.export_model(dense, config, ctx)
    else:
        folder = pipeline.adopt(ModelFolder.load(Path(source)), ctx)
    made = pipeline.export_model(folder, config, ctx)
    if not _is_same(output, made):
        made = write_artifact(output, made.path / chosen.file, made.manifest, force=force)
    return report(output, data=_data(config), ctx=ctx, policy=policy)


def bench(
    artifact: Where,
    *,
    baseline: Where | None = None,
    ctx: Context | None = None,
    data: Mapping[str, Any] | None = None,
    **options: Any,
) -> BenchResult:
    """Time and size of ``artifact``, beside ``baseline`` or the dense model exported the same way if it is known."""
    loaded, ctx = Artifact.load(Path(artifact)), ctx or context()
    other = Artifact.load(Path(baseline)) if baseline else evaluate.relatives(loaded, dict(data or {}), ctx).baseline
    return run_bench(loaded, other, num_threads=ctx.num_threads, **options)


def attack(artifact: Where, *, data: Mapping[str, Any] | None = None, ctx: Context | None = None) -> AttackResult:
    """Every attack on the file, its source and the dense baseline."""
    return _audit(Artifact.load(Path(artifact)), dict(data or {}), ctx or context(), Policy()).attack


def audit(
    artifact: Where,
    *,
    data: Mapping[str, Any] | None = None,
    ctx: Context | None = None,
    policy: Policy | None = None,
) -> AuditResult:
    """The attacks and the verdict under ``policy``."""
    return _audit(Artifact.load(Path(artifact)), dict(data or {}), ctx or context(), policy or Policy())


def report(
    artifact: Where,
    output: Where | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    ctx: Context | None = None,
    policy: Policy | None = None,
) -> ReportResult:
    """Benchmark and audit, written as ``report.html``, ``.md`` and ``.json`` to ``output`` (beside the model)."""
    loaded, ctx = Artifact.load(Path(artifact)), ctx or context()
    audited = _audit(loaded, dict(data or {}), ctx, policy or Policy())
    baseline = evaluate.relatives(loaded, dict(data or {}), ctx).baseline
    measured = run_bench(loaded, baseline, num_threads=ctx.num_threads)
    result = ReportResult(loaded, measured, audited, tuple(ctx.store.done), {})
    paths = write_report(result.to_dict(), Path(output) if output else loaded.path)
    return ReportResult(loaded, measured, audited, result.steps, paths)


def inspect(artifact: Where) -> dict[str, Any]:
    """The verified manifest as plain JSON values."""
    from dataclasses import asdict

    loaded = Artifact.load(Path(artifact))
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(loaded.manifest).items()}


def _audit(artifact: Artifact, data: dict[str, Any], ctx: Context, policy: Policy) -> AuditResult:
    splits = evaluate.audit_data(artifact, data)
    asked = evaluate.subjects(artifact, evaluate.relatives(artifact, data, ctx), splits, ctx)
    return AuditResult(evaluate.result(artifact, splits, asked), evaluate.verdict(asked, policy))


def _data(config: Config) -> dict[str, Any]:
    return {"dataset": config.data.dataset, "data_dir": config.data.data_dir}


def _check_free(output: Path, force: bool) -> None:
    """Say that the output is taken before an hour of work, not after; an artifact there may turn out to be the same."""
    if output.exists() and not force:
        try:
            Artifact.load(output)
        except ArtifactError as error:
            raise UsageError(f"{output} exists and is not a readable artifact ({error}); choose another -o") from error


def _is_same(output: Path, made: Artifact) -> bool:
    try:
        return output.exists() and Artifact.load(output).manifest == made.manifest
    except MobilepruneError:
        return False


def _copy(folder: ModelFolder, output: Path, force: bool) -> ModelFolder:
    if output.exists() and not (force and (output / "model.json").is_file()):
        raise UsageError(f"{output} exists; choose another -o, or give --force to replace a model folder")
    with atomic_folder(output, replace=force) as temporary:
        for name in ("weights.safetensors", "model.json"):
            shutil.copyfile(folder.path / name, temporary / name)
    return ModelFolder.load(output)
