"""What a foreign model answers, as the logits that attacks take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileprune.attacks import Access
from mobileprune.errors import DataError, unknown

Kind = Literal["logits", "probabilities", "labels"]
KINDS: tuple[Kind, ...] = ("logits", "probabilities")
"""Of ``--kind``; of labels there is nothing to tell apart."""
SHOWS: dict[Kind, Access] = {"logits": "logits", "probabilities": "probabilities", "labels": "labels"}
TOLERANCE = 1e-3
"""How far a row of probabilities may sum from 1."""
Where = Callable[[int], str]
"""Names a row for whoever has to mend it: ``image 3``, ``table.csv, line 5``."""


def checked_kind(name: str | None) -> Kind | None:
    """UsageError for a name that is not in ``KINDS``."""
    found = next((kind for kind in KINDS if kind == name), None)
    if name is not None and found is None:
        raise unknown("kind", name, KINDS)
    return found


def checked(values: NDArray[Any], where: Where) -> NDArray[Any]:
    """(N, K >= 2) real and finite, or DataError that names the first wrong row."""
    numbers = values.dtype.kind in "fiu" and values.dtype.itemsize <= 8  # longer ones overflow later
    if values.ndim != 2 or values.shape[1] < 2 or not numbers:
        raise DataError(
            "outputs must be numbers of shape (examples, classes >= 2) and at most 64 bits, "
            f"got {values.dtype} {values.shape}"
        )
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        i = int(bad.argmax())
        raise DataError(f"{where(i)}: outputs must be finite, got {values[i][~np.isfinite(values[i])][0]}")
    return values


def detected(values: NDArray[Any], where: Where) -> Kind:
    """Probabilities if no value is negative and every row sums to 1 within ``TOLERANCE``, else logits.

    DataError where all values lie in [0, 1] and a row does not sum to 1: rounded probabilities, or those of sigmoids,
    taken as logits would hide what they leak.
    """
    off = np.abs(values.sum(1, dtype=np.float64) - 1) > TOLERANCE
    if (values < 0).any() or (values > 1 + TOLERANCE).any():
        return "logits"
    if off.any():
        i = int(off.argmax())
        raise DataError(
            f"{where(i)}: all outputs lie in [0, 1], as probabilities do, but these sum to {values[i].sum():.6g}, "
            f"not to 1 within {TOLERANCE:g}: scale each row to sum to 1, or say --kind logits if that is what they are"
        )
    return "probabilities"


def as_logits(values: NDArray[Any], kind: Kind, where: Where) -> NDArray[np.float64]:
    """``values`` (N, K), or for labels (N, K) one-hot, as float64 logits.

    Of probabilities log p, where p = 0 counts as the least positive number of their type. DataError names the first
    row that is negative or does not sum to 1 within ``TOLERANCE``.
    """
    wide = checked(values, where).astype(np.float64)
    if kind != "probabilities":
        return wide
    sums = wide.sum(1)
    bad = (wide < 0).any(1) | (np.abs(sums - 1) > TOLERANCE)
    if bad.any():
        i = int(bad.argmax())
        raise DataError(
            f"{where(i)}: probabilities must not be negative and must sum to 1 within {TOLERANCE:g}, but the least is "
            f"{wide[i].min():.6g} and they sum to {sums[i]:.6g}: scale each row to sum to 1; "
            "values before softmax are logits"
        )
    return np.asarray(np.log(np.maximum(wide, least(values.dtype))))


def least(dtype: np.dtype[Any]) -> float:
    """The least positive number of a floating type, also where the processor flushes it to zero."""
    info = np.finfo(dtype if dtype.kind == "f" and dtype.itemsize < 8 else np.float64)
    return float(2.0 ** (info.minexp - info.nmant))
