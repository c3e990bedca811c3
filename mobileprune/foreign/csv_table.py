"""The columns of a CSV file as the arrays of a table of outputs."""

from __future__ import annotations

import csv
import math
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.bounds import MOST_CLASSES
from mobileprune.errors import DataError
from mobileprune.foreign.answers import Kind

TRUTH = {"1": True, "true": True, "0": False, "false": False}
PREFIXES: dict[str, Kind] = {"logit_": "logits", "p_": "probabilities"}
"""Of the output columns, which end with the number of their class."""
MOST_COLUMNS = MOST_CLASSES + 100
"""One a class, and others."""


@dataclass(frozen=True, eq=False)
class Columns:
    """``arrays`` by the names that tables have, ``kind`` as the output columns are called, the line of each row."""

    arrays: dict[str, NDArray[Any]]
    kind: Kind | None
    lines: array[int]


def read_csv(path: Path) -> Columns:
    """DataError that names the line for what is not UTF-8, not CSV, or not what its column holds."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(csv.reader(file, strict=True), path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error


def _read(rows: Any, path: Path) -> Columns:
    header = [name.strip() for name in next(rows, [])]
    if len(header) > MOST_COLUMNS:
        raise DataError(f"{path}, line 1: {len(header):,} columns, more than {MOST_COLUMNS:,}")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path}, line 1: column {twice[0][:80]!r} is there twice")
    outputs, kind = _output_columns(header, path)
    found: dict[str, list[Any]] = {FIELDS[name].array: [] for name in header if name in FIELDS}
    numbers, lines = array("d"), array("q")
    columns: list[tuple[int, _Field, Callable[[Any], None]]] = [
        *((i, FIELDS[name], found[FIELDS[name].array].append) for i, name in enumerate(header) if name in FIELDS),
        *((i, NUMBER, numbers.append) for i in outputs),
    ]
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(f"{path}, line {rows.line_num}: {len(row)} columns, the first line has {len(header)}")
        lines.append(rows.line_num)
        for i, field, keep in columns:
            try:
                keep(field.read(row[i]))
            except (ValueError, KeyError) as error:
                where = f"{path}, line {rows.line_num}"
                raise DataError(f"{where}: {header[i]} is {row[i][:80]!r}, must be {field.rule}") from error
    arrays = {name: np.array(values) for name, values in found.items()}
    if outputs:
        arrays["outputs"] = np.array(numbers, np.float64).reshape(-1, len(outputs))
    return Columns(arrays, kind, lines)


def _output_columns(header: list[str], path: Path) -> tuple[list[int], Kind | None]:
    """Where the columns of class 0, 1, ... are, and what they are."""
    place = {name: i for i, name in enumerate(header)}
    kinds = [prefix for prefix in PREFIXES if f"{prefix}0" in place]
    if len(kinds) > 1 or (kinds and "predicted" in place):
        raise DataError(f"{path}, line 1: has several of logit_0, p_0 and predicted; give one")
    if not kinds:
        return [], None
    (prefix,) = kinds
    count = sum(name.startswith(prefix) and name.removeprefix(prefix).isdecimal() for name in header)
    names = [f"{prefix}{k}" for k in range(count)]
    missing = [name for name in names if name not in place]
    if missing:
        raise DataError(f"{path}, line 1: column {missing[0]} is missing; classes are counted from 0")
    return [place[name] for name in names], PREFIXES[prefix]


def _plain(text: str) -> str:
    """Python alone takes ``1_000``, and digits of all scripts."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


def _class(text: str) -> int:
    value = int(_plain(text))
    if not 0 <= value < MOST_CLASSES:
        raise ValueError(text)
    return value


def _number(text: str) -> float:
    value = float(_plain(text))
    if not math.isfinite(value):
        raise ValueError(text)
    return value


@dataclass(frozen=True)
class _Field:
    """``read`` raises ValueError or KeyError for what is not as ``rule`` says."""

    array: str
    read: Callable[[str], Any]
    rule: str


_FLAG = (lambda text: TRUTH[text.strip().lower()], "1, true, 0 or false")
_CLASS = (_class, f"a class number in [0, {MOST_CLASSES:,})")
NUMBER = _Field("outputs", _number, "a finite number")
FIELDS: dict[str, _Field] = {
    "label": _Field("labels", *_CLASS),
    "predicted": _Field("predicted", *_CLASS),
    "member": _Field("member", *_FLAG),
    "canary": _Field("canary", *_FLAG),
    "id": _Field("id", str, "text"),
}
