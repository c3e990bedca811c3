"""A policy as a file: the limits of the verdict in [leakage], and gates over accuracy, size, latency and parity.

A gate over a number with an interval (the speed-up) passes if all of the interval keeps to the limit, fails if none of
it does, and is inconclusive otherwise. One over a plain number passes or fails: test accuracy is that of the test
images as they are. One over what was not measured, or timed on a busy machine, is inconclusive.
"""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from mobileprune.audit.limits import RULES, NotMeasured, Rule, Values
from mobileprune.audit.verdict import SEVERITY, Outcome, Policy
from mobileprune.errors import ConfigError, unknown

LEAKAGE = "leakage"
MAX_FILE_BYTES = 2**20
T = TypeVar("T")


@dataclass(frozen=True)
class Gate:
    """One limit held against what was measured; ``value`` None: nothing was."""

    name: str
    limit: float
    value: float | None
    outcome: Outcome
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Gates:
    """``policy`` for the verdict; ``limits``: name in ``RULES`` -> limit. ConfigError lists all that is wrong."""

    policy: Policy = field(default_factory=Policy)
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [str(unknown("limit", name, RULES)) for name in self.limits if name not in RULES]
        for name in self.limits.keys() & RULES.keys():
            limit, largest = self.limits[name], RULES[name].largest
            if not 0 <= limit <= min(largest, sys.float_info.max):  # TOML has integers that no float can hold
                range_ = "finite and at least 0" if math.isinf(largest) else f"in [0, {largest:g}]"
                problems.append(f"{name} must be {range_}, got {limit!s:.40}")
        if problems:
            raise ConfigError(sorted(problems))

    @property
    def needs_bench(self) -> bool:
        """Whether a limit is over what only a benchmark measures."""
        return any(RULES[name].bench for name in self.limits)

    def check(self, values: Values) -> list[Gate]:
        """Every limit held against ``values`` of a report: ``audit``, and ``manifest`` and ``bench`` where known."""
        return [_gate(name, limit, RULES[name], values) for name, limit in self.limits.items()]


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """fail > inconclusive > pass; of none: pass."""
    return max(outcomes, key=SEVERITY.__getitem__, default="pass")


def read(path: Path, **flags: float) -> Gates:
    """The policy file at ``path`` with ``flags`` laid over its [leakage]; ConfigError lists every problem of it."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES:,} bytes")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError([f"--policy {path}: {error}"]) from error
    try:
        return from_dict(values, **flags)
    except ConfigError as error:
        raise ConfigError([f"--policy {path}: {problem}" for problem in error.problems]) from error


def from_dict(values: Mapping[str, Any], **flags: float) -> Gates:
    """From nested ``values`` as the file has them: section -> name -> number."""
    problems: list[str] = []
    known = [*(f"{LEAKAGE}.{item.name}" for item in fields(Policy)), *RULES]
    sections = {name.partition(".")[0] for name in known}
    given: dict[str, float] = {}
    for section, entries in values.items():
        if section not in sections:
            problems.append(str(unknown("section", section, sections)))
            continue
        if not isinstance(entries, Mapping):
            problems.append(f"{section} must be a section with its limits, got {entries!r}")
            continue
        for key, value in entries.items():
            name = f"{section}.{key}"
            if name not in known:
                problems.append(str(unknown("limit", name, known)))
            elif isinstance(value, bool) or not isinstance(value, int | float):
                problems.append(f"{name}: {value!r} is not a number")
            else:
                given[name] = value
    leakage = {name.partition(".")[2]: given.pop(name) for name in list(given) if name.startswith(f"{LEAKAGE}.")}
    policy = _made(lambda: Policy(**{**leakage, **flags}), problems)
    gates = _made(lambda: Gates(limits=given), problems)
    if problems or policy is None or gates is None:
        raise ConfigError(problems)
    return replace(gates, policy=policy)


def _made(make: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return make()
    except ConfigError as error:
        problems += error.problems
        return None


def _gate(name: str, limit: float, rule: Rule, values: Values) -> Gate:
    subject = rule.words[0].upper() + rule.words[1:]
    bound = f"{'at most' if rule.most else 'at least'} {limit:{rule.form}}"
    try:
        found = rule.measure(values)
    except NotMeasured as why:
        sentence = f"It cannot be said whether {rule.words} is {bound}: {why}."
        return Gate(name, limit, None, "inconclusive", sentence)
    keeps = [edge <= limit if rule.most else edge >= limit for edge in (found.low, found.high)]
    outcome: Outcome = "pass" if all(keeps) else "inconclusive" if any(keeps) else "fail"
    shown = f"{found.value:{rule.form}}"
    if found.low < found.high:
        shown += f" [{found.low:{rule.form}}, {found.high:{rule.form}}]"
    return Gate(name, limit, found.value, outcome, f"{subject} is {shown}, must be {bound}.")
