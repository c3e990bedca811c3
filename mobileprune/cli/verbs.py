"""What each verb does with its parsed arguments: call the API, show the result, return the exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from mobileprune import api
from mobileprune.audit import gates
from mobileprune.audit.gates import Gates
from mobileprune.audit.verdict import Policy
from mobileprune.bench.on_device import DeviceBench
from mobileprune.cli import show
from mobileprune.cli.parser import DEVICE, POLICY, STRANGERS, options_from
from mobileprune.cli.progress import Console
from mobileprune.config import Effort, nested, to_toml
from mobileprune.devices.job import Device
from mobileprune.errors import UsageError
from mobileprune.files import write_json, write_text
from mobileprune.foreign import ForeignResult, Stranger
from mobileprune.pipeline.context import Context
from mobileprune.report.junit import junit
from mobileprune.report.summary import summary
from mobileprune.results import ReportResult
from mobileprune.runs import RunStore, default_root
from mobileprune.serve import serve

LINT_FAILED, UNAVAILABLE = 3, 5
MAX_SUSTAINED_MINS = 240
FOREIGN = "mobileprune.foreign/1"
DEVICE_BENCH = "mobileprune.device_bench/1"


def run(args: argparse.Namespace) -> int:
    with Console(quiet=args.quiet) as console:
        return VERBS[args.verb](args, console)


def _context(args: argparse.Namespace, console: Console) -> Context:
    store = RunStore(args.runs) if args.runs else RunStore()
    store.on_step = console.step
    return Context(store, console.progress, args.num_threads)


def _given(args: argparse.Namespace, flags: Iterable[str]) -> dict[str, Any]:
    """Those of ``flags`` that were given."""
    names = {name.removeprefix("--").replace("-", "_") for name in flags}
    return {name: value for name, value in vars(args).items() if name in names}


def _limits(args: argparse.Namespace) -> Gates:
    """The policy file with the flags laid over it."""
    flags = _given(args, POLICY)
    return gates.read(args.policy, **flags) if args.policy else Gates(Policy(**flags))


def _effort(args: argparse.Namespace) -> Effort:
    given = _given(args, (item.name for item in fields(Effort)))
    return Effort(**{**given, "versions": tuple(given.get("versions", ()))})


def _stranger(args: argparse.Namespace) -> Stranger:
    return cast(Stranger, _given(args, STRANGERS))


def _device(args: argparse.Namespace) -> Device | None:
    given = _given(args, DEVICE)
    if "device" not in given:
        if given:
            raise UsageError("--device-runtime and --cpus are for a device: say which with --device NAME")
        return None
    runtime = given.get("device_runtime")
    return Device(given["device"], Path(runtime) if runtime else None, given.get("cpus", ""))


def _data(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name in ("dataset", "data_dir", "model", "budget")}


def _finish(args: argparse.Namespace, value: dict[str, Any], table: Callable[[], None]) -> None:
    """The table to stdout, unless stdout is for JSON."""
    if args.json != "-":
        table()
    if args.json:
        document = {"schema": f"mobileprune.{args.verb}/1", **value}
        if args.json == "-":
            print(json.dumps(document, indent=2, allow_nan=False))
        else:
            write_json(Path(args.json), document)


def _judged(args: argparse.Namespace, audit: dict[str, Any], name: str, bench: dict[str, Any] | None) -> None:
    """``--junit`` and ``--summary``."""
    if args.junit:
        write_text(args.junit, junit(audit, name))
    if args.summary:
        write_text(args.summary, summary(audit, name, bench))


def _reported(args: argparse.Namespace, result: ReportResult) -> int:
    """A report is there to be read: only a policy file makes its exit code that of an audit."""
    value = result.to_dict()
    _finish(args, value, lambda: show.report(result))
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
            _finish(args, {"config": values}, lambda: print(toml, end=""))
    return bool(args.dry_run)


def _train(args: argparse.Namespace, console: Console) -> int:
    if not _planned(args):
        folder = api.train(args.output, ctx=_context(args, console), force=args.force, **options_from(args))
        _finish(args, show.model_value(folder), lambda: show.model(folder))
    return 0


def _prune(args: argparse.Namespace, console: Console) -> int:
    if not _planned(args):
        ctx, options = _context(args, console), options_from(args)
        folder = api.prune(args.output, args.source, ctx=ctx, force=args.force, **options)
        _finish(args, show.model_value(folder), lambda: show.model(folder))
    return 0


def _export(args: argparse.Namespace, console: Console) -> int:
    if _planned(args):
        return 0
    options = options_from(args)
    if options.get("target") == "torchscript-lite":
        from mobileprune.export.torchscript_lite import DEPRECATION

        console.say(DEPRECATION)
    ctx, limits, effort = _context(args, console), _limits(args), _effort(args)
    result = api.export(args.output, args.source, ctx=ctx, policy=limits, effort=effort, force=args.force, **options)
    return _reported(args, result)


def _bench(args: argparse.Namespace, console: Console) -> int:
    if args.num_runs < 1 or args.warmup_runs < 0 or not 0 <= args.min_secs < 3600:
        raise UsageError("--num-runs must be at least 1, --warmup-runs at least 0, --min-secs in [0, 3600)")
    if not 0 <= args.sustained <= MAX_SUSTAINED_MINS:
        raise UsageError(f"--sustained {args.sustained:g}: must be minutes from 0 to {MAX_SUSTAINED_MINS}")
    device, alone = _device(args), {"profile": args.profile, "sustained_mins": args.sustained}
    if device is None and any(alone.values()):
        raise UsageError(
            "--profile and --sustained are measured by the device runner: add --device local for this machine"
        )
    result = api.bench(
        args.artifact,
        baseline=args.baseline,
        ctx=_context(args, console),
        data=_data(args),
        device=device,
        min_runs=args.num_runs,
        warmup_runs=args.warmup_runs,
        min_secs=args.min_secs,
        **(alone if device else {}),
    )
    if isinstance(result, DeviceBench):
        _finish(args, {"schema": DEVICE_BENCH, **result.to_dict()}, lambda: show.device_bench(result))
    else:
        _finish(args, result.to_dict(), lambda: show.bench(result))
    return 0


def _attack(args: argparse.Namespace, console: Console) -> int:
    ctx, effort = _context(args, console), _effort(args)
    given: dict[str, Any] = {"data": _data(args), "device": _device(args)}
    result = api.attack(args.artifact, ctx=ctx, effort=effort, **given, **_stranger(args))
    if isinstance(result, ForeignResult):
        _finish(args, {"schema": FOREIGN, **result.to_dict()}, lambda: show.foreign(result))
    else:
        _finish(args, result.to_dict(), lambda: show.attack(result))
    return 0


def _audit(args: argparse.Namespace, console: Console) -> int:
    ctx, limits, effort = _context(args, console), _limits(args), _effort(args)
    given: dict[str, Any] = {"data": _data(args), "device": _device(args)}
    result = api.audit(args.artifact, ctx=ctx, policy=limits, effort=effort, **given, **_stranger(args))
    value = result.to_dict()
    if isinstance(result, ForeignResult):
        _finish(args, {"schema": FOREIGN, **value}, lambda: show.foreign(result))
        name = value["model"]["name"]
    else:
        _finish(args, value, lambda: show.audit(result))
        name = Path(args.artifact).name
    _judged(args, value, name, value.get("bench"))
    return result.exit_code


def _report(args: argparse.Namespace, console: Console) -> int:
    ctx, limits, effort = _context(args, console), _limits(args), _effort(args)
    given: dict[str, Any] = {"data": _data(args), "device": _device(args)}
    result = api.report(args.artifact, args.output, ctx=ctx, policy=limits, effort=effort, **given)
    return _reported(args, result)


def _inspect(args: argparse.Namespace, console: Console) -> int:
    if args.lint:
        value = {"schema": "mobileprune.lint/1", **api.lint(args.artifact)}
        _finish(args, value, lambda: show.lint(value))
        return LINT_FAILED if value["findings"] else 0
    value = api.inspect(args.artifact)
    _finish(args, value, lambda: show.inspect(value))
    return 0


def _compare(args: argparse.Namespace, console: Console) -> int:
    value = api.compare(args.a, args.b).to_dict()
    _finish(args, value, lambda: show.compare(value))
    return 0


def _explain(args: argparse.Namespace, console: Console) -> int:
    value = api.explain(args.source, **options_from(args)).to_dict()
    _finish(args, value, lambda: show.explain(value))
    return 0


def _devices(args: argparse.Namespace, console: Console) -> int:
    result = api.devices(args.action, args.device, runtime=args.device_runtime, say=console.say)
    _finish(args, result.to_dict(), lambda: show.devices(result))
    return 0 if result.ready else UNAVAILABLE


def _serve(args: argparse.Namespace, console: Console) -> int:
    folders = args.folders or [default_root()]

    def ready(url: str) -> None:
        _finish(args, {"url": url, "folders": [str(folder) for folder in folders]}, lambda: print(url, flush=True))
        console.say("Ctrl-C stops it")

    with suppress(KeyboardInterrupt):  # how it is meant to end
        serve(folders, args.port, ready)
    return 0


VERBS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "train": _train,
    "prune": _prune,
    "export": _export,
    "bench": _bench,
    "attack": _attack,
    "audit": _audit,
    "report": _report,
    "inspect": _inspect,
    "compare": _compare,
    "explain": _explain,
    "devices": _devices,
    "serve": _serve,
}
