"""What an inconclusive answer lacks: how many more examples would bring its interval to one side of the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from mobileprune.attacks import Group
from mobileprune.audit.compare import Comparison
from mobileprune.audit.intervals import Estimate

MOST_TIMES = 100.0
"""An estimate nearer to its limit than a tenth of the interval's half lies at it: who has 100 times the examples?"""


@dataclass(frozen=True)
class More:
    """``times`` the examples of ``group`` would do; None: no number would, for the estimate lies at the limit."""

    group: Group
    times: float | None


def times_needed(estimate: Estimate, limit: float) -> float:
    """How many times the examples bring the bound between value and limit to the limit, if the value stays.

    The half-width of an interval falls as 1 / sqrt(examples), so it is ((bound - value) / (limit - value))^2, of the
    upper bound for a value below the limit and of the lower one for a value above; at least 1. Infinite for a
    value at the limit, and where the estimate is not resolvable.

    >>> times_needed(Estimate(0.58, 0.54, 0.62, 0.9, "an example"), 0.60)
    4.0
    """
    if estimate.edges is None or estimate.value == limit:
        return math.inf
    value, low, high = estimate.edges
    bound = high if value < limit else low
    return max(1.0, round(((bound - value) / (limit - value)) ** 2, 6))


def more_needed(compared: Sequence[Comparison]) -> More:
    """What the rule of the verdict needs: one lower bound above its limit, or, where no estimate is above, each upper
    bound below."""
    needed = [(times_needed(c.estimate, c.limit), c) for c in compared]
    above = [(t, c) for t, c in needed if c.estimate.value is not None and c.estimate.value > c.limit]
    times, which = min(above, key=itemgetter(0)) if above else max(needed, key=itemgetter(0))
    return More(which.group, times if times <= MOST_TIMES else None)
