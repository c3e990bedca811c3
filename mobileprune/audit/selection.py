"""The strongest attack, reported honestly: chosen on one half of the examples, measured on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mobileprune.attacks import Scores
from mobileprune.audit.auc import auc
from mobileprune.audit.intervals import Estimate, not_resolvable
from mobileprune.audit.rates import tpr_at_fpr
from mobileprune.errors import UsageError


@dataclass(frozen=True)
class Strongest:
    """``chosen``: the attack chosen on the even and the one chosen on the odd positions. ``auc`` and
    ``tpr_at_1pct_fpr``: the mean of what each reaches on the half that did not choose it.

    ``best_of_all``: the largest AUC over all attacks on all examples, which is too high on average because the same
    examples chose and judged; the gap is what choosing is worth by luck.
    """

    chosen: tuple[str, ...]
    auc: Estimate
    tpr_at_1pct_fpr: Estimate
    best_of_all: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "chosen": list(self.chosen),
            "auc": self.auc.to_dict(),
            "tpr_at_1pct_fpr": self.tpr_at_1pct_fpr.to_dict(),
            "best_of_all": self.best_of_all,
        }


def halves(scores: Scores) -> tuple[Scores, Scores]:
    """The even and the odd positions among the members and among the non-members: pairs stay together."""
    member = scores.member
    position = np.where(member, np.cumsum(member), np.cumsum(~member)) - 1
    return scores.where(position % 2 == 0), scores.where(position % 2 == 1)


def highest_auc(scores: Scores) -> str:
    """The attack with the highest AUC, of equal ones the first; UsageError without attacks."""
    if not scores.by_attack:
        raise UsageError("no attack could be run, so none is the strongest; see Scores.skipped")
    # argmax takes the first of equals; without members or non-members all are equal.
    areas = [auc(*scores.sides(name)).value or 0.0 for name in scores.by_attack]
    return list(scores.by_attack)[int(np.argmax(areas))]


def strongest(scores: Scores, *, confidence: float = 0.95) -> Strongest:
    """Cross-fitted: the highest AUC on the even positions is measured on the odd ones and the other way round.

    A half's estimate is unbiased for the attack that the other half chose, but the two are not independent: where
    both halves choose the same attack, by luck, both judge it too well. Whatever the dependence, the
    standard error of a mean is at most the mean of the standard errors, so the bounds are the means of the halves'
    bounds, for the mean of the two chosen attacks' true values. A half needs 1 member and 1 non-member for the AUC,
    and 100 non-members for the TPR at 1 % FPR.
    """
    even, odd = halves(scores)
    if not scores.by_attack:
        nothing = not_resolvable("no attack could be run", confidence=confidence, method="cross-fitted choice")
        return Strongest((), nothing, nothing, None)
    chosen = (highest_auc(even), highest_auc(odd))
    judged = [half.sides(name) for name, half in zip(chosen, (odd, even), strict=True)]
    areas = [auc(*sides, confidence=confidence) for sides in judged]
    rates = [tpr_at_fpr(*sides, fpr=0.01, confidence=confidence) for sides in judged]
    best = auc(*scores.sides(highest_auc(scores))).value
    return Strongest(chosen, _mean(areas[0], areas[1]), _mean(rates[0], rates[1]), best)


def _mean(first: Estimate, second: Estimate) -> Estimate:
    parts = []
    for half in (first, second):
        if half.value is None or half.low is None or half.high is None:
            return Estimate(None, None, None, half.confidence, "cross-fitted choice", f"in one half, {half.note}")
        parts.append((half.value, half.low, half.high))
    value, low, high = ((a + b) / 2 for a, b in zip(*parts, strict=True))
    return Estimate(value, low, high, first.confidence, f"cross-fitted choice, mean of {first.method}")
