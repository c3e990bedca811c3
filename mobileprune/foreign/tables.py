"""A table of what a model has answered: ``.npz`` with arrays, or ``.csv`` with a row an example.

    labels (N,), member (N,) true or false, and one of: outputs (N, K), predicted (N,); optional: canary (N,), id (N,)

In CSV the columns are ``label``, ``member``, then ``logit_0`` to ``logit_{K-1}``, ``p_0`` to ``p_{K-1}`` or
``predicted``, and ``canary``, ``id``; others are left aside. Nothing of a table is run, and none is read that unfolds
to more than ``MAX_BYTES``, or is a text of more than ``MAX_TEXT_BYTES``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.bounds import MOST_CLASSES
from mobileprune.data.npz import members
from mobileprune.data.splits import MIN_PAIRS
from mobileprune.errors import DataError
from mobileprune.foreign.answers import Kind, Where, as_logits, checked, detected
from mobileprune.foreign.csv_table import read_csv

MAX_BYTES, MAX_TEXT_BYTES = 2**30, 2**28
NUMBER_BYTES = 8
"""Of what is worked with, however small the numbers are in the file."""
COLUMNS = ("outputs", "predicted", "labels", "member", "canary", "id")


@dataclass(frozen=True, eq=False)
class Table:
    """``logits`` (N, K) float64, of labels one-hot; ``labels`` (N,); ``member`` and ``canary`` (N,) bool.

    ``kind``: what the file holds; ``told``: whether the file, or the caller, says so.
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    member: NDArray[np.bool_]
    canary: NDArray[np.bool_]
    kind: Kind
    told: bool


def read(path: Path, kind: Kind | None = None) -> Table:
    """DataError in one line, naming the row, for whatever is missing, unreadable or not as it must be."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix not in (".npz", ".csv"):
        raise DataError(f"{path}: a table of outputs is an .npz or a .csv file")
    size, most = path.stat().st_size, MAX_TEXT_BYTES if path.suffix == ".csv" else MAX_BYTES
    if size > most:
        raise DataError(f"{path}: {size:,} bytes are more than such a table may have ({most:,}); leave examples out")
    if path.suffix == ".npz":
        return _table(_arrays(path), kind, lambda i: f"{path}, row {i}", str(path))
    text = read_csv(path)
    if text.kind and kind and text.kind != kind:
        raise DataError(f"{path}: its columns say that they are {text.kind}, not {kind}; leave --kind out")
    return _table(text.arrays, text.kind or kind, lambda i: f"{path}, line {text.lines[i]}", str(path))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with members(path, f"{path}: not a readable .npz file, or one of pickled objects") as file:
        found = [file[name] for name in COLUMNS if name in file]
        unfolded = sum(math.prod(each.shape) * max(each.dtype.itemsize, NUMBER_BYTES) for each in found)
        if unfolded > MAX_BYTES:
            raise DataError(f"{path}: unfolds to {unfolded:,} bytes, more than a table may have ({MAX_BYTES:,})")
        return {each.name: each.array() for each in found}


def _table(arrays: dict[str, NDArray[Any]], kind: Kind | None, where: Where, path: str) -> Table:
    missing = [name for name in ("labels", "member") if name not in arrays]
    if "outputs" not in arrays and "predicted" not in arrays:
        missing.append("outputs (or predicted)")
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; needs labels, member, and outputs or predicted")
    count = len(np.atleast_1d(arrays["labels"]))
    for name, values in arrays.items():
        if values.shape[:1] != (count,) or (name != "outputs" and values.ndim != 1):
            raise DataError(f"{path}: {name} has shape {values.shape}, labels have {count} rows; must be one a row")
    labels = _classes(arrays["labels"], "labels", where)
    member, canary = _flags(arrays["member"], "member", where), np.zeros(count, np.bool_)
    if "canary" in arrays:
        canary = _flags(arrays["canary"], "canary", where)
    if "id" in arrays:
        _check_ids(arrays["id"], where)
    if min(member.sum(), (~member).sum()) < MIN_PAIRS:
        raise DataError(
            f"{path}: {member.sum()} members and {(~member).sum()} non-members; fewer than {MIN_PAIRS} of each say "
            "nothing about membership"
        )
    if "outputs" not in arrays:
        if kind not in (None, "labels"):
            raise DataError(f"{path}: holds predicted labels, not {kind}; leave --kind out")
        return Table(_one_hot(arrays["predicted"], labels, where), labels, member, canary, "labels", True)
    outputs = checked(arrays["outputs"], where)
    if wrong := np.flatnonzero(labels >= outputs.shape[1]).tolist():
        raise DataError(f"{where(wrong[0])}: label {labels[wrong[0]]}, but there are {outputs.shape[1]} outputs")
    found = kind or detected(outputs, where)
    return Table(as_logits(outputs, found, where), labels, member, canary, found, kind is not None)


def _classes(values: NDArray[Any], name: str, where: Where) -> NDArray[np.int64]:
    if values.dtype.kind not in "iu":
        raise DataError(f"{where(0)}: {name} must be whole numbers, got {values.dtype}")
    if wrong := np.flatnonzero((values < 0) | (values >= MOST_CLASSES)).tolist():
        raise DataError(f"{where(wrong[0])}: {name} must lie in [0, {MOST_CLASSES:,}), got {values[wrong[0]]}")
    return values.astype(np.int64)


def _flags(values: NDArray[Any], name: str, where: Where) -> NDArray[np.bool_]:
    if values.dtype.kind not in "biu":
        raise DataError(f"{where(0)}: {name} must be true or false, got {values.dtype}")
    if wrong := np.flatnonzero((values != 0) & (values != 1)).tolist():
        raise DataError(f"{where(wrong[0])}: {name} must be true or false, got {values[wrong[0]]}")
    return values.astype(np.bool_)


def _check_ids(values: NDArray[Any], where: Where) -> None:
    """An example that is there twice would count twice, and one that is on both sides has no membership."""
    first: dict[Any, int] = {}
    try:
        listed = values.tolist()
    except Exception as error:  # of different kinds for different numbers that are no letters
        raise DataError(f"{where(0)}: id holds what is no text") from error
    for i, value in enumerate(listed):
        if first.setdefault(value, i) != i:
            raise DataError(f"{where(i)}: id {str(value)[:80]!r} is also that of {where(first[value])}; keep one")


def _one_hot(values: NDArray[Any], labels: NDArray[np.int64], where: Where) -> NDArray[np.float64]:
    """(N, K): a table of labels does not tell K, so it is the largest that occurs, at least 2, plus 1."""
    predicted = _classes(values, "predicted", where)
    largest = np.maximum(predicted, labels)
    classes = max(2, int(largest.max()) + 1)
    if 8 * classes * len(labels) > MAX_BYTES:
        raise DataError(f"{where(int(largest.argmax()))}: class {classes - 1:,} of so many examples; count from 0")
    logits = np.zeros((len(labels), classes))
    logits[np.arange(len(labels)), predicted] = 1.0
    return logits
