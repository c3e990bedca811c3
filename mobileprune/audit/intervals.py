"""Estimates with their intervals; exact intervals of one rate and of sums of two."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; value None means "not resolvable", with the reason in ``note``."""

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    note: str | None = None

    @property
    def edges(self) -> tuple[float, float, float] | None:
        """Value, low and high; None where not resolvable."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return self.value, self.low, self.high

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: null where not resolvable, never NaN."""
        return asdict(self)


def not_resolvable(reason: str, *, confidence: float, method: str) -> Estimate:
    return Estimate(None, None, None, confidence, method, f"not resolvable: {reason}")


def checked_scores(*arrays: NDArray[Any]) -> tuple[Floats, ...]:
    """The score arrays as 1-d float64; DataError if any is not 1-d and finite."""
    checked = []
    for array in arrays:
        scores = np.asarray(array, dtype=np.float64)
        if scores.ndim != 1 or not np.isfinite(scores).all():
            raise DataError(f"scores must be finite and 1-d, got shape {scores.shape}; clean the attack's output")
        checked.append(scores)
    return tuple(checked)


def normal_quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))


def clopper_pearson(successes: float, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a binomial rate (Clopper & Pearson 1934), each side at (1 - confidence) / 2.

    Half a success (a tie) is rounded down for the low and up for the high bound.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    down, up = math.floor(successes), math.ceil(successes)
    low = 0.0 if down == 0 else float(betaincinv(down, trials - down + 1, tail))
    high = 1.0 if up == trials else float(betaincinv(up + 1, trials - up, 1 - tail))
    return low, high


def rate(successes: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """successes / trials with its Clopper-Pearson interval; not resolvable of no trials."""
    method = "Clopper-Pearson"
    if trials == 0:
        return not_resolvable("nothing was tried", confidence=confidence, method=method)
    return Estimate(successes / trials, *clopper_pearson(successes, trials, confidence=confidence), confidence, method)


def mover_mean(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float, float]:
    """Mean of two rates (value, low, high) with the MOVER interval (Zou & Donner 2008).

    low = (a + b - sqrt((a - a_low)^2 + (b - b_low)^2)) / 2, high likewise.
    """
    a, a_low, a_high = first
    b, b_low, b_high = second
    return (
        (a + b) / 2,
        (a + b - math.hypot(a - a_low, b - b_low)) / 2,
        (a + b + math.hypot(a_high - a, b_high - b)) / 2,
    )


def mover_difference(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """First minus second (value, low, high) with the MOVER interval (Zou & Donner 2008).

    low = a - b - sqrt((a - a_low)^2 + (b_high - b)^2), high likewise. It is that of independent estimates, and too wide
    for those of the same examples, which go up and down together.
    """
    b, b_low, b_high = second
    value, low, high = mover_mean(first, (-b, -b_high, -b_low))
    return 2 * value, 2 * low, 2 * high


def unanimous_bounds(value: float, pairs: int, *, alpha_low: float, alpha: float) -> tuple[float, float]:
    """One-sided bounds of a mean in [-1, 1] when all of n independent observations equal ``value``.

    The chance of another outcome is at most q = 1 - alpha^(1/n) (Clopper-Pearson with none seen), so
    the mean is at least value - q (value + 1) and at most value + q (1 - value).
    """
    q_low, q_high = 1 - alpha_low ** (1 / pairs), 1 - alpha ** (1 / pairs)
    return value - q_low * (value + 1), value + q_high * (1 - value)


def smallest_detectable_auc(members: int, nonmembers: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """0.5 + (z_{1-alpha} + z_power) sqrt((M + N + 1) / (12 M N)), at most 1.

    The AUC that one one-sided Mann-Whitney test against chance at level alpha finds with that power.
    """
    if members < 1 or nonmembers < 1:
        raise DataError(f"needs at least 1 member and 1 non-member, got {members} and {nonmembers}")
    spread = math.sqrt((members + nonmembers + 1) / (12 * members * nonmembers))
    return min(1.0, 0.5 + (normal_quantile(1 - alpha) + normal_quantile(power)) * spread)
