"""What each verb does with its parsed arguments: call the API, show the result, return the exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobileprune import api
from mobileprune.audit.verdict import Policy
from mobileprune.cli import show
from mobileprune.cli.parser import options_from
from mobileprune.cli.progress import Console
from mobileprune.config import nested, to_toml
from mobileprune.errors import UsageError
from mobileprune.files import write_json, write_text
from mobileprune.pipeline.context import Context
from mobileprune.runs import RunStore

LINT_FAILED = 3


def run(args: argparse.Namespace) -> int:
    with Console(quiet=args.quiet) as console:
        return VERBS[args.verb](args, console)


def _context(args: argparse.Namespace, console: Console) -> Context:
    store = RunStore(args.runs) if args.runs else RunStore()
    store.on_step = console.step
    return Context(store, console.progress, args.num_threads)


def _policy(args: argparse.Namespace) -> Policy:
    return Policy(args.max_auc, args.max_canary_auc, args.auc_margin, args.tpr_margin, args.alpha)


def _data(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name in ("dataset", "data_dir")}


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
    ctx, policy = _context(args, console), _policy(args)
    result = api.export(args.output, args.source, ctx=ctx, policy=policy, force=args.force, **options)
    _finish(args, result.to_dict(), lambda: show.report(result))
    return 0


def _bench(args: argparse.Namespace, console: Console) -> int:
    if args.num_runs < 1 or args.warmup_runs < 0 or not 0 <= args.min_secs < 3600:
        raise UsageError("--num-runs must be at least 1, --warmup-runs at least 0, --min-secs in [0, 3600)")
    result = api.bench(
        args.artifact,
        baseline=args.baseline,
        ctx=_context(args, console),
        data=_data(args),
        min_runs=args.num_runs,
        warmup_runs=args.warmup_runs,
        min_secs=args.min_secs,
    )
    _finish(args, result.to_dict(), lambda: show.bench(result))
    return 0


def _attack(args: argparse.Namespace, console: Console) -> int:
    result = api.attack(args.artifact, data=_data(args), ctx=_context(args, console))
    _finish(args, result.to_dict(), lambda: show.attack(result))
    return 0


def _audit(args: argparse.Namespace, console: Console) -> int:
    result = api.audit(args.artifact, data=_data(args), ctx=_context(args, console), policy=_policy(args))
    _finish(args, result.to_dict(), lambda: show.audit(result))
    return result.verdict.exit_code


def _report(args: argparse.Namespace, console: Console) -> int:
    result = api.report(args.artifact, args.output, data=_data(args), ctx=_context(args, console), policy=_policy(args))
    _finish(args, result.to_dict(), lambda: show.report(result))
    return 0


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
}
