"""The Pareto front: what nothing else is better than."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STEP = 0.1


def ranks(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each row of ``costs`` (N, M), lower is better: 0 on the Pareto front, 1 on the front of all others, ... (N,).

    a dominates b if a_m <= b_m for every m and a_m < b_m for one: non-dominated sorting, O(N^2 M) in numpy's loops.

    >>> ranks(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 3.0]]))
    array([0, 0, 1])
    """
    rank = np.full(len(costs), -1, np.int64)
    left, level = np.arange(len(costs)), 0
    while len(left):
        rest = costs[left]
        free = np.array([not (np.all(rest <= c, axis=1) & np.any(rest < c, axis=1)).any() for c in rest])
        rank[left[free]] = level
        left, level = left[~free], level + 1
    return rank


def step_of(latency: float) -> int:
    """Latencies within about a tenth are one step, so that noise puts nothing on the front.

    >>> step_of(1.0) == step_of(1.04) == step_of(0.96) < step_of(1.2)
    True
    """
    return round(math.log(latency) / math.log1p(STEP))
