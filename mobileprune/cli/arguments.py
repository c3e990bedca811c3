"""What the parsed arguments of a verb mean: the values that the API takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from mobileprune.audit import gates
from mobileprune.audit.gates import Gates
from mobileprune.audit.verdict import Policy
from mobileprune.cli.flags import OF_ENGINES
from mobileprune.cli.grammar import DEVICE, FOREIGN, POLICY
from mobileprune.config import Effort
from mobileprune.devices.session import Device
from mobileprune.engines import Engine
from mobileprune.errors import UsageError
from mobileprune.foreign import ForeignModel
from mobileprune.sweep.limits import Limits
from mobileprune.sweep.run import SweepOptions
from mobileprune.sweep.timing import TimingOptions


def given(args: argparse.Namespace, flags: Iterable[str]) -> dict[str, Any]:
    """Those of ``flags`` that were given."""
    names = {name.removeprefix("--").replace("-", "_") for name in flags}
    return {name: value for name, value in vars(args).items() if name in names}


def limits(args: argparse.Namespace) -> Gates:
    """The policy file with the flags laid over it."""
    flags = given(args, POLICY)
    return gates.read(args.policy, **flags) if args.policy else Gates(Policy(**flags))


def effort(args: argparse.Namespace) -> Effort:
    found = given(args, (item.name for item in fields(Effort)))
    return Effort(**{**found, "versions": tuple(found.get("versions", ()))})


def foreign_model(args: argparse.Namespace) -> ForeignModel:
    return cast(ForeignModel, given(args, FOREIGN))


def device(args: argparse.Namespace) -> Device | None:
    found = given(args, DEVICE)
    if "device" not in found:
        if found:
            raise UsageError("--device-runtime and --cpus are for a device: say which with --device NAME")
        return None
    runtime = found.get("device_runtime")
    return Device(found["device"], Path(runtime) if runtime else None, found.get("cpus", ""))


def data(args: argparse.Namespace) -> dict[str, Any]:
    return given(args, ("--dataset", "--data-dir", "--image-size", "--model", "--budget"))


def check_timing(args: argparse.Namespace) -> None:
    if args.num_runs < 1 or args.warmup_runs < 0 or not 0 <= args.min_secs < 3600:
        raise UsageError("--num-runs must be at least 1, --warmup-runs at least 0, --min-secs in [0, 3600)")


def how(args: argparse.Namespace) -> SweepOptions:
    """Of a sweep."""
    check_timing(args)
    return SweepOptions(
        Engine(args.engine, args.jobs, args.address),
        Effort(**given(args, (item.name for item in fields(Effort) if item.name not in OF_ENGINES))),
        Limits(**given(args, (item.name for item in fields(Limits)))),
        args.prefer,
        TimingOptions(args.warmup_runs, args.num_runs, args.min_secs),
    )
