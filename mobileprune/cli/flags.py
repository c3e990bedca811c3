"""Flags that are made from the fields of a configuration. Imports no torch."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any

from mobileprune.config import ENGINES, Effort, default_of, flag, value_type
from mobileprune.sweep.limits import PREFERENCES, Limits

OF_ENGINES: dict[str, dict[str, Any]] = {
    "jobs": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "tasks at a time, each in a process (default: 1)",
    },
    "engine": {"choices": ENGINES, "default": "local", "help": "processes of this machine, or a Ray cluster"},
    "address": {"metavar": "NAME", "help": "of a running Ray cluster: HOST:PORT, or auto"},
}


def add_option(group: Any, owner: type[Any], item: Field[Any]) -> None:
    kind, default, choices = value_type(owner, item), default_of(item), item.metadata["choices"]
    shown = "" if default is None or kind is bool else f" (default: {default})"
    text = (item.metadata["help"] + shown).replace("%", "%%")
    extra: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
    if choices:
        extra["choices"] = choices
    elif kind is not bool:
        extra["metavar"] = {"int": "N", "float": "X", "str": "NAME"}[kind.__name__]
    group.add_argument(flag(item.name), dest=item.name, default=argparse.SUPPRESS, help=text, **extra)


def add_swept(attacker: Any, engine: Any) -> None:
    """The attacker's options for every point, and where tasks run."""
    for item in fields(Effort):
        if item.name in OF_ENGINES:
            engine.add_argument(flag(item.name), **OF_ENGINES[item.name])
        elif item.name != "versions":
            add_option(attacker, Effort, item)


def add_choice(group: Any) -> None:
    for item in fields(Limits):
        add_option(group, Limits, item)
    shown = "of the artifacts that keep to every limit, the best in this (default: size)"
    group.add_argument("--prefer", choices=tuple(PREFERENCES), default="size", help=shown)
