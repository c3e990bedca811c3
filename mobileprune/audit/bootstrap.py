"""The paired bootstrap of TPRs, drawn by counts: examples that decide alike are drawn together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mobileprune.audit.intervals import Floats

RESAMPLES, MOST_RESAMPLES = 2_000, 100_000
CHUNK = 4_000_000
UNSEEN = 1e-12
"""The chance per resample that its threshold lies above, or below, all that the bootstrap tells apart."""

Ints = NDArray[np.int64]


def resamples_for(tail: float) -> int:
    """So many that one of them can be expected in a tail of probability ``tail``, within limits."""
    return min(MOST_RESAMPLES, max(RESAMPLES, math.ceil(1 / tail)))


def resampled_differences(
    a: tuple[Floats, Floats], b: tuple[Floats, Floats], allowed: int, rng: np.random.Generator, resamples: int
) -> Floats:
    """TPR(a) - TPR(b) of every resample, (resamples,), from a = (members, non-members) and b of the same examples, each
    with ``allowed`` false positives.

    A resample is a multinomial draw of counts, so examples that decide alike are drawn together: non-members
    in the cells of their two values, where those too high, or too low, to be a threshold count as one; then,
    the thresholds given, members in the 3 x 3 cells of below, at and above the one and the other.
    """
    (members_a, nonmembers_a), (members_b, nonmembers_b) = a, b
    m, n = len(members_a), len(nonmembers_a)
    levels_a, of_a = _levels(nonmembers_a, allowed)
    levels_b, of_b = _levels(nonmembers_b, allowed)
    cells, sizes = np.unique(of_a * len(levels_b) + of_b, return_counts=True)
    cell_a, cell_b = np.divmod(cells, len(levels_b))
    both = _at_least(_positions(members_a, levels_a), _positions(members_b, levels_b), len(levels_a), len(levels_b))
    drawn, rows = [], max(1, CHUNK // len(cells))
    for start in range(0, resamples, rows):
        counts = rng.multinomial(n, sizes / n, size=min(rows, resamples - start))
        above_a, hit_a = _thresholds(counts, cell_a, len(levels_a), allowed)
        above_b, hit_b = _thresholds(counts, cell_b, len(levels_b), allowed)
        table = np.diff(np.diff(both[above_a[:, :, None], above_b[:, None, :]], axis=1), axis=2)
        found = rng.multinomial(m, table.reshape(-1, 9) / m).reshape(-1, 3, 3)
        drawn.append((found * (hit_a[:, :, None] - hit_b[:, None, :])).sum(axis=(1, 2)) / m)
    return np.concatenate(drawn)


def _levels(nonmembers: Floats, allowed: int) -> tuple[Floats, Ints]:
    """The distinct values, ascending, that can be a resample's threshold, and each non-member's index among them.

    What lies above or below all of them is +-inf. More than ``allowed`` of a resample's n draws are among the
    d highest with P[Binomial(n, d / n) > allowed] = I_{d/n}(allowed + 1, n - allowed): at most UNSEEN for
    those above, at least 1 - UNSEEN for those not below.
    """
    from scipy.special import betaincinv

    n = len(nonmembers)
    above = math.floor(n * float(betaincinv(allowed + 1, n - allowed, UNSEEN)))
    depth = min(n, math.ceil(n * float(betaincinv(allowed + 1, n - allowed, 1 - UNSEEN))))
    ordered = np.partition(nonmembers, [n - depth, n - 1 - above])
    kept = np.where(nonmembers < ordered[n - depth], -np.inf, nonmembers)
    levels, index = np.unique(np.where(kept > ordered[n - 1 - above], np.inf, kept), return_inverse=True)
    return levels, index


def _positions(members: Floats, levels: Floats) -> Ints:
    """2 l + 1 for a score equal to level l, 2 l for one below it and above level l - 1."""
    return np.searchsorted(levels, members, "left") + np.searchsorted(levels, members, "right")


def _at_least(first: Ints, second: Ints, levels_a: int, levels_b: int) -> Ints:
    """[i, j]: the members whose positions are at least i and at least j; 0 in the last row and column."""
    shape = 2 * levels_a + 2, 2 * levels_b + 2
    at = np.bincount(first * shape[1] + second, minlength=shape[0] * shape[1]).reshape(shape)
    return at[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]


def _thresholds(counts: Ints, level_of_cell: Ints, levels: int, allowed: int) -> tuple[Ints, Floats]:
    """From ``counts`` (R, C), how often each cell was drawn: where the positions below, at and above the threshold
    begin and end, (R, 4), and with which probability the three are called members, (R, 3).
    """
    order = np.argsort(-level_of_cell)
    starts = np.searchsorted(-level_of_cell[order], -np.arange(levels)[::-1])
    per_level = np.add.reduceat(counts[:, order], starts, axis=1)
    reached = per_level.cumsum(axis=1)
    at, rows = (reached > allowed).argmax(axis=1), np.arange(len(counts))
    equal = per_level[rows, at]
    share = (allowed - (reached[rows, at] - equal)) / equal
    level = levels - 1 - at
    edges = np.stack([0 * level, 2 * level + 1, 2 * level + 2, np.full_like(level, 2 * levels + 1)], axis=1)
    return edges, np.stack([0 * share, share, np.ones_like(share)], axis=1)
