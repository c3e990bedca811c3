"""The Python API: one function a verb. Values in, values out, nothing printed.

>>> import mobileprune  # doctest: +SKIP
>>> result = mobileprune.export("out", sparsity=0.9, target="onnx")  # doctest: +SKIP
>>> result.audit.verdict.overall  # doctest: +SKIP
'fail'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from mobileprune import evaluate, foreign
from mobileprune.artifact import Artifact, write_artifact
from mobileprune.audit.gates import Gates
from mobileprune.bench import BenchResult
from mobileprune.bench import bench as run_bench
from mobileprune.bench.on_device import DeviceBench, bench_device
from mobileprune.config import OWNERS, Effort
from mobileprune.devices import doctor
from mobileprune.devices.doctor import DevicesResult
from mobileprune.devices.session import Device
from mobileprune.errors import UsageError
from mobileprune.evaluate import AttackResult, AuditResult, Relatives
from mobileprune.export import target
from mobileprune.foreign import ForeignModel, ForeignResult
from mobileprune.inspection import compare as compare
from mobileprune.inspection import explanation, look
from mobileprune.inspection import inspect as inspect
from mobileprune.inspection.explanation import Explanation
from mobileprune.inspection.findings import findings_in
from mobileprune.models.folder import RECORD, ModelFolder
from mobileprune.options import check_options, given
from mobileprune.options import configure as configure
from mobileprune.outputs import check_artifact_output, check_model_output, copy_model, is_same
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export as run_export
from mobileprune.pipeline.manifest import planned
from mobileprune.pipeline.prune import prune as run_prune
from mobileprune.pipeline.train import train as run_train
from mobileprune.report import write_report
from mobileprune.results import Audited, PolicyLike, ReportResult, gated, limits_of
from mobileprune.runs import RunStore
from mobileprune.sweep.run import SweepOptions, SweepResult, sweep_of
from mobileprune.tracking import log as log

Where = str | Path


def context(runs: Where | None = None, num_threads: int = 1) -> Context:
    """Where results are kept (default: ``MOBILEPRUNE_RUNS`` or the user's cache) and how many threads compute."""
    return Context(RunStore(Path(runs)) if runs else RunStore(), num_threads=num_threads)


def train(output: Where, *, ctx: Context | None = None, force: bool = False, **options: Any) -> ModelFolder:
    """Train the dense model into the model folder ``output``; ``options`` as in :func:`configure`."""
    config = configure(**options)
    check_options(config, options)
    check_model_output(Path(output), force)
    return copy_model(run_train(config, ctx or context()), Path(output), force)


def prune(
    output: Where, source: Where | None = None, *, ctx: Context | None = None, force: bool = False, **options: Any
) -> ModelFolder:
    """Prune ``source`` (a model folder; trained first when None) into the model folder ``output``."""
    ctx, config = ctx or context(), configure(source, **options)
    check_options(config, options)
    check_model_output(Path(output), force)
    dense = run_train(config, ctx) if source is None else given(source, options, ctx, pruning=True)
    return copy_model(run_prune(dense, config, ctx), Path(output), force)


def export(
    output: Where,
    source: Where | None = None,
    *,
    ctx: Context | None = None,
    policy: PolicyLike | None = None,
    effort: Effort | None = None,
    force: bool = False,
    **options: Any,
) -> ReportResult:
    """The whole way: train and prune what is missing, export, check, benchmark, attack, report.

    ``source``: a model folder. It is exported as it is, or pruned first when an option of pruning (such as
    ``sparsity``) is given. Raises ParityError when the exported file computes something else than the
    model; ``output`` is then not written.
    """
    ctx, config, output = ctx or context(), configure(source, **options), Path(output)
    chosen, pruning = target(config.export.target), source is None or any(OWNERS.get(o) == "prune" for o in options)
    limits = limits_of(policy)
    check_options(config, options)
    chosen.require()
    check_artifact_output(output, force, lambda: planned(config, source, pruning=pruning))
    folder = run_train(config, ctx) if source is None else given(source, options, ctx, pruning=pruning)
    if pruning:
        folder = run_prune(folder, config, ctx)
    made = run_export(folder, config, ctx)
    if not is_same(output, made):
        made = write_artifact(output, made.path / chosen.file, made.manifest, force=force)
    return report(output, data=evaluate.overrides_of(config), ctx=ctx, policy=limits, effort=effort)


def bench(
    artifact: Where,
    *,
    baseline: Where | None = None,
    ctx: Context | None = None,
    data: Mapping[str, Any] | None = None,
    device: Device | str | None = None,
    **options: Any,
) -> BenchResult | DeviceBench:
    """Time and size of ``artifact``, beside ``baseline`` or the dense model exported the same way (never hardened).

    ``options``: as :func:`mobileprune.bench.bench` has them, with a ``device`` (such as ``ssh://user@host``) as
    :class:`mobileprune.bench.on_device.DeviceEffort`. On an emulated device instructions are counted instead of time.
    """
    loaded, ctx = Artifact.load(Path(artifact)), ctx or context()
    other = Artifact.load(Path(baseline)) if baseline else evaluate.relatives(loaded, dict(data or {}), ctx).baseline
    if device is None:
        return run_bench(loaded, other, num_threads=ctx.num_threads, **options)
    return bench_device(loaded, other, Device.of(device), num_threads=ctx.num_threads, **options)


def attack(
    artifact: Where | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    ctx: Context | None = None,
    effort: Effort | None = None,
    device: Device | str | None = None,
    **foreign_model: Unpack[ForeignModel],
) -> AttackResult | ForeignResult:
    """Every attack that ``effort`` allows on the file, its source and the dense baseline.

    ``device``: where the file is asked, such as ``qemu:cortex-a76``; its answers are held against this machine's too.

    ``foreign_model`` instead of an artifact: ``predict``, a function (or its ``package.module:function``) from pixels
    (N, C, H, W) float32 in [0, 1] to (N, K) logits or probabilities, or ``outputs``, a table of answers; ``artifact``
    may be a model file without a manifest too, for which ``mean`` and ``std`` say what it is fed. ``kind``: logits or
    probabilities. Then ``data`` (dataset, data_dir and image_size) has to state who is a member.
    """
    data, ctx, effort = dict(data or {}), ctx or context(), effort or Effort()
    found = foreign.examine(None if artifact is None else Path(artifact), data, ctx, effort, foreign_model)
    if not isinstance(found, Path):
        _only_artifacts(device)
        return foreign.result(found)
    return _audit(Artifact.load(found), data, ctx, Gates(), effort, device)[0].attack


def audit(
    artifact: Where | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    ctx: Context | None = None,
    policy: PolicyLike | None = None,
    effort: Effort | None = None,
    device: Device | str | None = None,
    **foreign_model: Unpack[ForeignModel],
) -> Audited | ForeignResult:
    """The attacks and the verdict under ``policy``; with a ``device`` on the answers that the file gives there.

    ``data``: dataset and data_dir where the manifest cannot tell; for reference models also model (a function of the
    user's, which they run) and budget (a file).

    ``foreign_model``: as in :func:`attack`. A policy with gates over latency or size has the artifact benchmarked too.
    """
    limits = limits_of(policy)
    data, ctx, effort = dict(data or {}), ctx or context(), effort or Effort()
    found = foreign.examine(None if artifact is None else Path(artifact), data, ctx, effort, foreign_model)
    if not isinstance(found, Path):
        _only_artifacts(device)
        return foreign.result(found, limits)
    loaded = Artifact.load(found)
    audited, relatives = _audit(loaded, data, ctx, limits, effort, device)
    measured = run_bench(loaded, relatives.baseline, num_threads=ctx.num_threads) if limits.needs_bench else None
    return gated(audited, loaded, measured, limits, bench=measured)


def report(
    artifact: Where,
    output: Where | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    ctx: Context | None = None,
    policy: PolicyLike | None = None,
    effort: Effort | None = None,
    device: Device | str | None = None,
) -> ReportResult:
    """Benchmark and audit, written as ``report.html``, ``.md``, ``.json`` and ``card.html`` to ``output``.

    The default of ``output`` is the artifact's folder, beside the model. With a ``device`` the file is asked there, as
    :func:`audit` does, and measured here and there.
    """
    loaded, ctx, limits = Artifact.load(Path(artifact)), ctx or context(), limits_of(policy)
    audited, relatives = _audit(loaded, dict(data or {}), ctx, limits, effort or Effort(), device)
    measured = run_bench(loaded, relatives.baseline, num_threads=ctx.num_threads)
    there = bench_device(loaded, relatives.baseline, Device.of(device), num_threads=ctx.num_threads) if device else None
    judged = gated(audited, loaded, measured, limits)
    contents = look(loaded.path).contents.to_dict()
    result = ReportResult(loaded, measured, judged, contents, tuple(ctx.store.done), {}, there)
    return replace(result, paths=write_report(result.to_dict(), Path(output) if output else loaded.path))


def sweep(
    plan: Where | Mapping[str, Any],
    output: Where,
    *,
    ctx: Context | None = None,
    how: SweepOptions | None = None,
    **options: Any,
) -> SweepResult:
    """Every combination of a grid of options as a measured artifact, the Pareto front, and the one that fits limits.

    ``plan``: a TOML file with [base], [grid] and [limits], or its values; ``options`` are laid over its base, limits of
    ``how`` over its limits. A sweep that was interrupted goes on when it is called again.
    """
    return sweep_of(plan, Path(output), ctx or context(), how or SweepOptions(), **options)


def explain(source: Where | None = None, **options: Any) -> Explanation:
    """Why an export with these ``options`` will, or will not, be faster or smaller; before any work starts.

    ``source``: a model folder, which is pruned if an option of pruning is given, as :func:`export` does; an artifact or
    a model file as it is, for its own target or another ``target``, ``precision`` or ``sparse_format``; or None for a
    model that would be trained first.
    """
    if source is not None and not (Path(source) / RECORD).is_file():
        configure(**options)  # names every problem of theirs
        return explanation.of_file(look(Path(source)), options)
    config = configure(source, **options)
    check_options(config, options)
    if source is None:
        return explanation.of_plan(config)
    pruning = any(OWNERS.get(option) == "prune" for option in options)
    return explanation.of_folder(ModelFolder.load(Path(source)), config, pruning=pruning)


def lint(path: Where) -> dict[str, Any]:
    """What should not be in a model file, and files that do not belong to an artifact, as plain JSON values.

    ``path``: an artifact, or somebody's ``.onnx`` or ``.ptl`` file; of any other file only the bytes are searched.
    Nothing is run. Raises ArtifactError when it cannot be read as what it is.
    """
    return {"path": str(path), "findings": findings_in(Path(path))}


def devices(
    action: str = "list",
    device: str | None = None,
    *,
    runtime: Where | None = None,
    say: Callable[[str], None] | None = None,
) -> DevicesResult:
    """``list`` the devices; let the ``doctor`` try one as far as an inference; ``setup`` or ``remove`` what qemu needs.

    ``runtime``: the doctor's libonnxruntime for a device that mobileprune has none for. ``say`` is told what a set-up
    is about to do. Raises DeviceError when a set-up fails, UsageError for an action without its device.
    """
    if action == "list" and device is None and runtime is None:
        return doctor.listed()
    if device is None or action not in ("doctor", "setup", "remove") or (runtime and action != "doctor"):
        raise UsageError("devices takes list, doctor DEVICE (with --device-runtime), setup qemu or remove qemu")
    if action == "doctor":
        return doctor.examined(device, Path(runtime) if runtime else None)
    return doctor.prepared(device, say or (lambda text: None)) if action == "setup" else doctor.removed(device)


def _audit(
    artifact: Artifact, data: dict[str, Any], ctx: Context, limits: Gates, effort: Effort, device: Device | str | None
) -> tuple[AuditResult, Relatives]:
    splits = evaluate.audit_data(artifact, data)
    relatives = evaluate.relatives(artifact, data, ctx)
    asked, compared = evaluate.subjects(artifact, relatives, splits, ctx, effort, data), None
    if device is not None:
        here = asked["artifact"]
        asked["artifact"], compared = evaluate.asked_there(here, artifact, splits, ctx, effort, Device.of(device))
    verdict = evaluate.verdict(artifact, asked, limits.policy, effort)
    return AuditResult(evaluate.result(artifact, splits, asked, effort, compared), verdict), relatives


def _only_artifacts(device: Device | str | None) -> None:
    if device is not None:
        raise UsageError("--device takes an artifact of `mobileprune export`; anything else is asked on this machine")
