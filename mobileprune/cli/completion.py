"""What a shell offers after an option. Names come from the source of the registries: importing those takes torch."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from importlib.resources import files

from argcomplete import autocomplete

from mobileprune.cli.grammar import ATTACKER, OF_REFERENCES, VERBS

Names = list[str]


def keys(file: str, registry: str) -> Names:
    """Those of the dictionary, or the elements of the tuple, that ``file`` of the package writes as ``registry``."""
    for node in ast.parse(files("mobileprune").joinpath(file).read_text("utf-8")).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == registry for target in targets):
            value = getattr(node, "value", None)
            found = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
            return [key.value for key in found if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    raise LookupError(f"{file} has no {registry}")


def defenses() -> Names:
    return ["none", *keys("defenses/__init__.py", "DEFENSES")]


OFFERED: dict[str, Callable[[], Names]] = {
    "budget": lambda: keys("pruning/budgets.py", "SHARED"),
    "dataset": lambda: [
        *keys("data/__init__.py", "DATASETS"),
        *(f"{k}:" for k in keys("data/__init__.py", "PREFIXES")),
    ],
    "defense": defenses,
    "device": lambda: ["local", "ssh://", "adb", *(f"qemu:{cpu}" for cpu in keys("devices/profiles.py", "PROFILES"))],
    "harden": lambda: ["none", *keys("convert/harden.py", "HARDENINGS")],
    "kind": lambda: keys("foreign/answers.py", "KINDS"),
    "log": lambda: keys("tracking.py", "LOGGERS"),
    "method": lambda: keys("pruning/__init__.py", "METHODS"),
    "model": lambda: [*keys("models/__init__.py", "MODELS"), *keys("models/__init__.py", "FAMILIES")],
    "pattern": lambda: [*keys("pruning/patterns.py", "NAMED"), "block:4x1", "block:8x1", "1:4", "2:4"],
    "sparse_format": lambda: ["auto", "dense", "coo", "packed", "sparse"],
    "target": lambda: keys("export/__init__.py", "TARGETS"),
    "train_defense": defenses,
}
"""Destination of an option or argument -> the names that it takes. Anything else that it takes can still be typed."""
JOINED = ("defense", "train_defense")
"""Take several names with + between them."""


def complete(top: argparse.ArgumentParser) -> None:
    """Answer the shell and end the process."""
    autocomplete(with_completers(top))


def with_completers(top: argparse.ArgumentParser) -> argparse.ArgumentParser:
    (chosen,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    for name, verb in VERBS.items():
        for action in chosen.choices[name]._actions:
            # Verbs that make nothing take only the user's own function as --model, and only a file as --budget.
            own = f"--{action.dest}" in OF_REFERENCES and ATTACKER in verb.groups
            if action.dest in OFFERED and action.choices is None and not own:
                action.completer = completer(action.dest)
    return top


def completer(dest: str) -> Callable[..., Names]:
    def offer(prefix: str, **_: object) -> Names:
        before, plus, _last = prefix.rpartition("+") if dest in JOINED else ("", "", "")
        return [f"{before}{plus}{name}" for name in OFFERED[dest]()]

    return offer
