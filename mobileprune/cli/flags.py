"""Arguments of the command line as values, and those that are made from the fields of a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import Field, dataclass, fields
from typing import Any

from mobileprune.config import ENGINES, Effort
from mobileprune.option import flag, value_type

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


@dataclass(frozen=True)
class Argument:
    """What ``add_argument`` takes."""

    names: tuple[str, ...]
    rule: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Arguments that help shows together."""

    title: str
    arguments: tuple[Argument, ...]


def argument(*names: str, **rule: Any) -> Argument:
    return Argument(names, rule)


def add(parser: Any, arguments: Iterable[Argument]) -> None:
    """To a parser or a group of it."""
    for each in arguments:
        parser.add_argument(*each.names, **each.rule)


def of_field(owner: type[Any], item: Field[Any]) -> Argument:
    kind, default, choices = value_type(owner, item), item.default, item.metadata["choices"]
    shown = "" if default is None or kind is bool else f" (default: {default})"
    text = (item.metadata["help"] + shown).replace("%", "%%")
    extra: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
    if choices:
        extra["choices"] = choices
    elif kind is not bool:
        extra["metavar"] = {"int": "N", "float": "X", "str": "NAME"}[kind.__name__]
    return argument(flag(item.name), dest=item.name, default=argparse.SUPPRESS, help=text, **extra)


def of_fields(owner: type[Any], *, only: Iterable[str] = (), without: Iterable[str] = ()) -> tuple[Argument, ...]:
    """All fields, ``only`` these or all ``without`` those, in the order of the class."""
    found = (item for item in fields(owner) if item.name not in without and (not only or item.name in only))
    return tuple(of_field(owner, item) for item in found)


def of_engines() -> tuple[Argument, ...]:
    """Those fields of Effort that say where work is done, for a verb whose work is more than reference models."""
    return tuple(argument(flag(f.name), **OF_ENGINES[f.name]) for f in fields(Effort) if f.name in OF_ENGINES)
