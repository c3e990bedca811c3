"""Power: the smallest leak that a sample could have shown, and the sample that a margin needs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.attacks import Scores
from mobileprune.audit.intervals import checked_scores, normal_quantile, smallest_detectable_auc
from mobileprune.audit.rates import allowed_false_positives, threshold_at_fpr, why_not_resolvable
from mobileprune.errors import UsageError


@dataclass(frozen=True)
class Power:
    """What each of ``attacks`` tests against chance, at alpha / attacks, finds with probability ``power``.

    ``smallest_tpr`` at 1 % FPR; None where it is not resolvable or no TPR would do. ``pairs_for_margin``: the members,
    and as many non-members, with which the AUCs of artifact and source, if equal, are shown to differ by
    less than ``auc_margin`` at alpha with that power, were their scores independent given membership: the
    worst case, since scores of an export and its source hardly differ.
    """

    attacks: int
    alpha: float
    power: float
    auc_margin: float
    smallest_auc: float | None
    smallest_tpr: float | None
    pairs_for_margin: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def power_of(scores: Scores, *, auc_margin: float = 0.02, alpha: float = 0.05, power: float = 0.8) -> Power:
    """The power of a sample of this size with this many attacks; the scores themselves play no part."""
    m, n = scores.counts()
    attacks = max(1, len(scores.by_attack))
    smallest = smallest_detectable_auc(m, n, alpha=alpha / attacks, power=power) if min(m, n) else None
    rate = smallest_detectable_tpr(m, n, fpr=0.01, alpha=alpha / attacks, power=power)
    needed = pairs_needed(auc_margin, alpha=alpha, power=power)
    return Power(attacks, alpha, power, auc_margin, smallest, rate, needed)


def tpr_p_value(members: NDArray[np.float64], nonmembers: NDArray[np.float64], *, fpr: float = 0.01) -> float | None:
    """P[as many members above the threshold for ``fpr``] if members are no different; None where not resolvable.

    With k non-members above it, the threshold is the (k + 1)-th highest of N, and the number of members above is
    beta-binomial(M, k + 1, N - k) whatever the distribution: exact, conservative where scores tie.
    """
    from scipy.stats import betabinom

    members, nonmembers = checked_scores(members, nonmembers)
    m, n = len(members), len(nonmembers)
    if why_not_resolvable(m, n, fpr):
        return None
    allowed = allowed_false_positives(n, fpr)
    found = int((members > threshold_at_fpr(nonmembers, fpr)).sum())
    return float(betabinom.sf(found - 1, m, allowed + 1, n - allowed))


def smallest_detectable_tpr(
    members: int, nonmembers: int, *, fpr: float = 0.01, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The TPR at ``fpr`` that the test of :func:`tpr_p_value` finds at level alpha with that power.

    The smallest count c of members with a p-value <= alpha; then the rate p at which P[Binomial(M, p) >= c] = power.
    None where the FPR is not resolvable or even c = M has a larger p-value.
    """
    from scipy.special import betaincinv
    from scipy.stats import betabinom

    _check_levels(alpha, power)
    if why_not_resolvable(members, nonmembers, fpr):
        return None
    allowed = allowed_false_positives(nonmembers, fpr)
    # Summed from the top: scipy's own tail is a sum over the mass for every count, quadratic in the members.
    mass = betabinom.pmf(np.arange(members + 1), members, allowed + 1, nonmembers - allowed)
    count = int((mass[::-1].cumsum() > alpha).sum())
    return float(betaincinv(count, members - count + 1, power)) if count <= members else None


def pairs_needed(margin: float, *, correlation: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int:
    """Members, and as many non-members, for a paired non-inferiority test of two AUCs near 1/2 against ``margin``.

    An AUC of n against n at chance has variance (2 n + 1) / (12 n^2), near 1 / (6 n); the difference of two with this
    ``correlation`` 2 (1 - correlation) times that. n = (1 - correlation) (z_{1-alpha} + z_power)^2 / (3 margin^2),
    rounded up, for a true difference of 0.

    >>> pairs_needed(0.02), pairs_needed(0.02, correlation=0.99)
    (5153, 52)
    """
    _check_levels(alpha, power)
    if not 0 < margin < 1 or not -1 <= correlation <= 1:
        raise UsageError(f"needs 0 < margin < 1 and -1 <= correlation <= 1, got {margin} and {correlation}")
    reach = normal_quantile(1 - alpha) + normal_quantile(power)
    return max(1, math.ceil((1 - correlation) * reach**2 / (3 * margin**2)))


def _check_levels(alpha: float, power: float) -> None:
    if not (0 < alpha < 0.5 and 0.5 <= power < 1):
        raise UsageError(f"needs 0 < alpha < 0.5 <= power < 1, got alpha {alpha} and power {power}")
