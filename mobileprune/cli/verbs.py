"""What each verb does with its parsed arguments: call the API, show the result, return the exit code."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobileprune import api, tracking
from mobileprune.bench.on_device import DeviceBench
from mobileprune.cli import arguments, show
from mobileprune.cli.finish import finish, shown
from mobileprune.cli.parser import options_from
from mobileprune.cli.progress import Console
from mobileprune.config import nested, to_toml
from mobileprune.errors import UsageError
from mobileprune.files import write_text
from mobileprune.foreign import ForeignResult
from mobileprune.pipeline.context import Context
from mobileprune.report.junit import junit
from mobileprune.report.summary import summary
from mobileprune.results import ReportResult
from mobileprune.runs import RunStore, default_root
from mobileprune.serve import serve as run_server
from mobileprune.sweep.run import SweepResult

LINT_FAILED, UNAVAILABLE = 3, 5
MAX_SUSTAINED_MINS = 240
FOREIGN = "mobileprune.foreign/1"
DEVICE_BENCH = "mobileprune.device_bench/1"


def _context(args: argparse.Namespace, console: Console) -> Context:
    if getattr(args, "log", None):
        tracking.check(args.log)  # before any work
    store = RunStore(args.runs) if args.runs else RunStore()
    store.on_step, store.on_wait = console.step, console.wait
    return Context(store, console.progress, args.num_threads)


def _judged(args: argparse.Namespace, audit: dict[str, Any], name: str, bench: dict[str, Any] | None) -> None:
    """``--junit`` and ``--summary``."""
    if args.junit:
        write_text(args.junit, junit(audit, name))
    if args.summary:
        write_text(args.summary, summary(audit, name, bench))


def _log(args: argparse.Namespace, result: ReportResult | SweepResult) -> None:
    if args.log:
        run_id = api.log(result, args.log)
        if args.json != "-":
            with shown():
                print(f"logged as run {run_id}")


def _reported(args: argparse.Namespace, result: ReportResult) -> int:
    """A report is there to be read: only a policy file makes its exit code that of an audit."""
    value = result.to_dict()
    finish(args, value, lambda: show.report(result))
    _log(args, result)
    _judged(args, value["audit"], result.artifact.path.name, value["bench"])
    return result.audit.exit_code if args.policy else 0


def _planned(args: argparse.Namespace) -> bool:
    """``--save-config`` and ``--dry-run``; True when there is nothing more to do."""
    if args.save_config or args.dry_run:
        source, options = getattr(args, "source", None), options_from(args)
        values = api.configure(source, **options).to_dict()
        # With a MODEL what was not asked for stays so: its own options count, and being named can mean being done.
        toml = to_toml(values if source is None else nested(options))
        if args.save_config:
            write_text(args.save_config, toml)
        if args.dry_run:
            finish(args, {"config": values}, lambda: print(toml, end=""))
    return bool(args.dry_run)


def train(args: argparse.Namespace, console: Console) -> int:
    if not _planned(args):
        folder = api.train(args.output, ctx=_context(args, console), force=args.force, **options_from(args))
        finish(args, show.model_value(folder), lambda: show.model(folder))
    return 0


def prune(args: argparse.Namespace, console: Console) -> int:
    if not _planned(args):
        ctx, options = _context(args, console), options_from(args)
        folder = api.prune(args.output, args.source, ctx=ctx, force=args.force, **options)
        finish(args, show.model_value(folder), lambda: show.model(folder))
    return 0


def export(args: argparse.Namespace, console: Console) -> int:
    if _planned(args):
        return 0
    options = options_from(args)
    if options.get("target") == "torchscript-lite":
        from mobileprune.export.torchscript_lite import DEPRECATION

        console.say(DEPRECATION)
    ctx, limits, effort = _context(args, console), arguments.limits(args), arguments.effort(args)
    result = api.export(args.output, args.source, ctx=ctx, policy=limits, effort=effort, force=args.force, **options)
    return _reported(args, result)


def bench(args: argparse.Namespace, console: Console) -> int:
    arguments.check_timing(args)
    if not 0 <= args.sustained <= MAX_SUSTAINED_MINS:
        raise UsageError(f"--sustained {args.sustained:g}: must be minutes from 0 to {MAX_SUSTAINED_MINS}")
    device, alone = arguments.device(args), {"profile": args.profile, "sustained_mins": args.sustained}
    if device is None and any(alone.values()):
        raise UsageError(
            "--profile and --sustained are measured by the device runner: add --device local for this machine"
        )
    result = api.bench(
        args.artifact,
        baseline=args.baseline,
        ctx=_context(args, console),
        data=arguments.data(args),
        device=device,
        min_runs=args.num_runs,
        warmup_runs=args.warmup_runs,
        min_secs=args.min_secs,
        **(alone if device else {}),
    )
    if isinstance(result, DeviceBench):
        finish(args, {"schema": DEVICE_BENCH, **result.to_dict()}, lambda: show.device_bench(result))
    else:
        finish(args, result.to_dict(), lambda: show.bench(result))
    return 0


def attack(args: argparse.Namespace, console: Console) -> int:
    ctx, effort = _context(args, console), arguments.effort(args)
    given: dict[str, Any] = {"data": arguments.data(args), "device": arguments.device(args)}
    result = api.attack(args.artifact, ctx=ctx, effort=effort, **given, **arguments.foreign_model(args))
    if isinstance(result, ForeignResult):
        finish(args, {"schema": FOREIGN, **result.to_dict()}, lambda: show.foreign(result))
    else:
        finish(args, result.to_dict(), lambda: show.attack(result))
    return 0


def audit(args: argparse.Namespace, console: Console) -> int:
    ctx, limits, effort = _context(args, console), arguments.limits(args), arguments.effort(args)
    given: dict[str, Any] = {"data": arguments.data(args), "device": arguments.device(args)}
    result = api.audit(args.artifact, ctx=ctx, policy=limits, effort=effort, **given, **arguments.foreign_model(args))
    value = result.to_dict()
    if isinstance(result, ForeignResult):
        finish(args, {"schema": FOREIGN, **value}, lambda: show.foreign(result))
        name = value["model"]["name"]
    else:
        finish(args, value, lambda: show.audit(result))
        name = Path(args.artifact).name
    _judged(args, value, name, value.get("bench"))
    return result.exit_code


def report(args: argparse.Namespace, console: Console) -> int:
    ctx, limits, effort = _context(args, console), arguments.limits(args), arguments.effort(args)
    given: dict[str, Any] = {"data": arguments.data(args), "device": arguments.device(args)}
    result = api.report(args.artifact, args.output, ctx=ctx, policy=limits, effort=effort, **given)
    return _reported(args, result)


def sweep(args: argparse.Namespace, console: Console) -> int:
    ctx, how = _context(args, console), arguments.how(args)
    how = replace(how, heard=console.task)
    given = arguments.given(args, ("--dataset", "--data-dir", "--image-size"))
    result = api.sweep(args.plan, args.output, ctx=ctx, how=how, force=args.force, **given)
    finish(args, result.to_dict(), lambda: show.sweep(result))
    _log(args, result)
    return result.exit_code


def lint(args: argparse.Namespace, console: Console) -> int:
    """``inspect --lint``"""
    value = {"schema": "mobileprune.lint/1", **api.lint(args.artifact)}
    finish(args, value, lambda: show.lint(value))
    return LINT_FAILED if value["findings"] else 0


def explain(args: argparse.Namespace, console: Console) -> int:
    value = api.explain(args.source, **options_from(args)).to_dict()
    finish(args, value, lambda: show.explain(value))
    return 0


def devices(args: argparse.Namespace, console: Console) -> int:
    result = api.devices(args.action, args.device, runtime=args.device_runtime, say=console.say)
    finish(args, result.to_dict(), lambda: show.devices(result))
    return 0 if result.ready else UNAVAILABLE


def serve(args: argparse.Namespace, console: Console) -> int:
    folders = args.folders or [default_root()]

    def ready(url: str) -> None:
        finish(args, {"url": url, "folders": [str(folder) for folder in folders]}, lambda: print(url, flush=True))
        console.say("Ctrl-C stops it")

    with suppress(KeyboardInterrupt):  # how it is meant to end
        run_server(folders, args.port, ready)
    return 0
