"""Means over seeds, and what paired differences decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

Interval = dict[str, float]


def interval(values: Sequence[float]) -> Interval:
    """Mean over seeds with Student's 95 % interval."""
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """a - b, seed by seed."""
    return interval([x - y for x, y in zip(a, b, strict=True)])


def outcome(lower: Interval) -> str:
    """Whether "a is lower than b" held, by the interval of a - b."""
    return "held" if lower["high"] < 0 else "reversed" if lower["low"] > 0 else "not resolved"
