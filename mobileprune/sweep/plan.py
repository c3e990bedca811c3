"""What a sweep is to make: ``[base]`` as in ``--config``, and ``[grid]`` with the values of each axis.

    [grid]
    method = ["mia", "magnitude"]                       # an axis of one option
    network = [{ model = "lenet5", members = 1000 },    # or of several that go together, under any name
               { model = "resnet8", members = 600 }]
    seed = [0, 1, 2]

Points are all combinations; those that differ in nothing but the seed are one *case*.
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileprune.config import OWNERS, Config, flat, from_dict, nested
from mobileprune.errors import ConfigError, MobilepruneError
from mobileprune.report.sweep_tables import options_text
from mobileprune.sweep.limits import Limits

MAX_POINTS = 10_000
MAX_FILE_BYTES = 2**20
SEED = "seed"
PATHS = ("dataset", "checkpoint", "budget")
"""Options that may hold a path, of which results keep the last part only."""

Options = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One artifact to be made. ``options``: those of the grid but the seed."""

    id: str
    case: str
    seed: int
    options: Options
    config: Config

    @property
    def said(self) -> str:
        """What makes it another than its neighbours, for a line of progress."""
        return options_text({**self.options, "seed": self.seed})


@dataclass(frozen=True)
class Plan:
    """``base``: options of all points, flat; ``grid``: axis -> values."""

    name: str
    base: Options
    grid: dict[str, list[Any]]
    limits: Limits
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """For results: without paths of this machine."""
        grid = {
            axis: [public(v) if isinstance(v, Mapping) else public({axis: v}).get(axis, v) for v in values]
            for axis, values in self.grid.items()
        }
        return {"name": self.name, "base": public(self.base), "grid": grid}


def read(path: Path, **overrides: Any) -> Plan:
    """The plan in the file at ``path``, ``overrides`` laid over its base; ConfigError lists every problem."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES:,} bytes")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: {error}"]) from error
    try:
        return plan({"name": path.stem, **values}, **overrides)
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error


def plan(values: Mapping[str, Any], **overrides: Any) -> Plan:
    """From nested ``values`` as the file has them."""
    known: dict[str, type[Any]] = {"name": str, "base": dict, "grid": dict, "limits": dict}
    problems = [f"unknown entry {name!r}: choose from {', '.join(known)}" for name in values if name not in known]
    for name, kind in known.items():
        if not isinstance(values.get(name, kind()), kind):
            problems.append(f"{name} must be a {'string' if kind is str else 'table'}")
    grid = values.get("grid")
    if not problems and not grid:
        problems = ["[grid] is missing or empty: give at least one option a list of values"]
    if problems:
        raise ConfigError(problems)
    try:
        base = {**flat(values.get("base", {})), **overrides}
    except ConfigError as error:
        raise ConfigError([f"[base]: {problem}" for problem in error.problems]) from error
    problems += list(_wrong_axes(values["grid"], base))
    try:
        limits = Limits.of(values.get("limits", {}))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    grid = {axis: list(axis_values) for axis, axis_values in values["grid"].items()}
    return Plan(values.get("name", "sweep"), base, grid, limits, tuple(_points(base, grid)))


def _wrong_axes(grid: Mapping[str, Any], base: Options) -> Iterator[str]:
    owners: dict[str, str] = {}
    for axis, values in grid.items():
        if not isinstance(values, list) or not values:
            yield f"grid {axis}: must be a list of one or more values"
            continue
        tables = [isinstance(value, Mapping) for value in values]
        if any(tables) and not all(tables):
            yield f"grid {axis}: values are either all tables or none is"
            continue
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(values):
            yield f"grid {axis}: a value is there twice"
        for option in {name for value in values for name in (value if isinstance(value, Mapping) else (axis,))}:
            if option != SEED and option not in OWNERS:
                yield f"grid {axis}: {option!r} is no option: choose from seed, {', '.join(sorted(OWNERS))}"
            if option in base:
                yield f"grid {axis}: {option} is in [base] too; leave it out there"
            if owners.setdefault(option, axis) != axis:
                yield f"grid {axis}: {option} is on axis {owners[option]} too"
    count = _count(grid)
    if count > MAX_POINTS:
        yield f"the grid has {count:,} points, at most {MAX_POINTS:,} are allowed: make several sweeps of it"


def _count(grid: Mapping[str, Any]) -> int:
    count = 1
    for values in grid.values():
        count *= len(values) if isinstance(values, list) else 1
    return count


def _points(base: Options, grid: dict[str, list[Any]]) -> Iterator[Point]:
    """In the order of the file, the last axis fastest. ConfigError lists the first problems of all points."""
    problems: dict[str, None] = {}  # in order, each once
    cases: dict[str, str] = {}
    points: list[Point] = []
    try:
        from_dict(nested(base))
    except MobilepruneError as error:
        raise ConfigError([f"[base]: {error}"]) from error
    for chosen in itertools.product(*grid.values()):
        options: Options = {}
        for axis, value in zip(grid, chosen, strict=True):
            options |= value if isinstance(value, Mapping) else {axis: value}
        try:
            config = from_dict(nested({**base, **options}))
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        own = {name: value for name, value in options.items() if name != SEED}
        case = cases.setdefault(json.dumps(own, sort_keys=True), f"c{len(cases):03d}")
        points.append(Point(f"p{len(points):03d}", case, config.seed, public(own), config))
    if problems:
        raise ConfigError(problems)
    yield from points


def public(options: Mapping[str, Any]) -> Options:
    """``options`` without paths of this machine."""
    shown = {name: value for name, value in options.items() if name != "data_dir"}
    for name in PATHS:
        if isinstance(text := shown.get(name), str):
            prefix, colon, path = text.rpartition(":")
            shown[name] = prefix + colon + Path(path).name
    return shown
