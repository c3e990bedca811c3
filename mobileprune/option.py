"""An option: a field of a dataclass with its rule.

The rule is all that the command line needs to offer the option (help text, choices and valid range), and all that it
takes to say what is wrong with a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, field
from types import UnionType
from typing import Any, get_args, get_type_hints

LARGEST = 2**63
"""Of whole numbers: what is larger is not read back from results, by mobileprune or by other programs."""


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    """A field with its rule: one of ``choices``, or low <= value <= high, or value < below."""
    rule = {"help": help, "choices": choices, "low": low, "high": high, "below": below}
    return field(default=default, metadata=rule)


def value_type(owner: type[Any], item: Field[Any]) -> type[Any]:
    """The scalar type of a field: ``int`` for ``int | None``."""
    hint: Any = get_type_hints(owner)[item.name]
    kinds: tuple[type[Any], ...] = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next(kind for kind in kinds if kind is not type(None))


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def problems_of(owner: Any, items: Iterable[Field[Any]], spelt: Callable[[str], str] = flag) -> Iterator[str]:
    """What breaks the rules of the fields ``items``, which are called as ``spelt`` has it."""
    for item in items:
        value, kind, rule = getattr(owner, item.name), value_type(type(owner), item), item.metadata
        if value is None and item.default is None:
            continue
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            yield f"{spelt(item.name)}: {value!r} is not a {kind.__name__}"
        elif isinstance(value, int) and abs(value) > LARGEST:
            yield f"{spelt(item.name)}: a whole number beyond 2**63 is too large"
        elif rule["choices"] and value not in rule["choices"]:
            yield f"{spelt(item.name)} {value!r}: choose from {', '.join(rule['choices'])}"
        elif not _in_range(value, rule):
            yield f"{spelt(item.name)} {value}: must be {_range(rule)}"


def _in_range(value: Any, rule: Mapping[str, Any]) -> bool:
    """NaN and infinity are in no range."""
    low, high, below = rule["low"], rule["high"], rule["below"]
    fits = (low is None or value >= low) and (high is None or value <= high) and (below is None or value < below)
    return fits and value not in (math.inf, -math.inf)


def _range(rule: Mapping[str, Any]) -> str:
    if rule["below"] is not None:
        return f"in [{rule['low']:g}, {rule['below']:g})"
    return f"in [{rule['low']:g}, {rule['high']:g}]" if rule["high"] is not None else f"at least {rule['low']:g}"
