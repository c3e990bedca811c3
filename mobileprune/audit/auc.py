"""AUC with DeLong's variance, alone and paired (DeLong et al. 1988; Sun & Xu 2014 for the midranks)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobileprune.audit.intervals import (
    Estimate,
    Floats,
    checked_scores,
    clopper_pearson,
    normal_quantile,
    not_resolvable,
    unanimous_bounds,
)
from mobileprune.errors import DataError

SMALLEST_DELONG = 10
"""With fewer examples on a side its variance is itself too uncertain to be used."""


def _placements(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """Per member the non-members below it (ties count half), (M,); per non-member the members above it, (N,)."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([members, nonmembers]))
    size = len(members)
    return ranks[:size] - rankdata(members), size - (ranks[size:] - rankdata(nonmembers))


def same_ranking(a: Floats, b: Floats) -> bool:
    """Whether both score the examples in the same order with the same ties: then they decide alike."""
    from scipy.stats import rankdata

    return bool(np.array_equal(a, b) or np.array_equal(rankdata(a), rankdata(b)))


def delong_covariance(members: Floats, nonmembers: Floats) -> tuple[Floats, Floats]:
    """AUCs (A,) and their covariance (A, A) for A scorings of the same M, N >= 2 examples: (A, M), (A, N).

    Cov = S10 / M + S01 / N, the sample covariances of the structural components.
    """
    members, nonmembers = np.atleast_2d(members), np.atleast_2d(nonmembers)
    m, n = members.shape[1], nonmembers.shape[1]
    if m < 2 or n < 2 or len(members) != len(nonmembers):
        raise DataError(f"needs shapes (A, M >= 2) and (A, N >= 2), got {members.shape} and {nonmembers.shape}")
    # Counts are divided only at the end: sums of halves are exact, so no variance is exactly 0.
    inside, outside = zip(*(_placements(x, y) for x, y in zip(members, nonmembers, strict=True)), strict=True)
    covariance = np.cov(inside).reshape(len(members), -1) / n**2 / m
    covariance = covariance + np.cov(outside).reshape(len(members), -1) / m**2 / n
    return np.mean(inside, axis=1) / n, covariance


def auc(members: NDArray[np.float64], nonmembers: NDArray[np.float64], *, confidence: float = 0.95) -> Estimate:
    """P(member score > non-member score) + P(equal) / 2, from scores (M,) and (N,).

    Interval: DeLong's variance on the logit scale. Where that variance is 0 (perfect separation, all
    scores equal) or a side has fewer than 10 examples: Clopper-Pearson with AUC n successes in the
    n = min(M, N) disjoint member/non-member pairs, which is conservative (it ignores the other pairs).
    """
    members, nonmembers = checked_scores(members, nonmembers)
    m, n = len(members), len(nonmembers)
    if min(m, n) == 0:
        return not_resolvable(
            f"{m} members and {n} non-members, at least 1 of each", confidence=confidence, method="DeLong, logit scale"
        )
    inside, outside = _placements(members, nonmembers)
    value, variance = float(inside.mean() / n), 0.0
    if min(m, n) >= SMALLEST_DELONG:
        variance = float(np.var(inside, ddof=1) / n**2 / m + np.var(outside, ddof=1) / m**2 / n)
    if variance == 0.0:
        pairs = min(m, n)
        successes = round(2 * value * pairs, 9) / 2
        low, high = clopper_pearson(successes, pairs, confidence=confidence)
        return Estimate(value, low, high, confidence, f"Clopper-Pearson over {pairs} disjoint pairs")
    from scipy.special import expit, logit

    half = normal_quantile((1 + confidence) / 2) * variance**0.5 / (value * (1 - value))
    low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return Estimate(value, low, high, confidence, "DeLong, logit scale")


def paired_auc_difference(
    members_a: NDArray[np.float64],
    nonmembers_a: NDArray[np.float64],
    members_b: NDArray[np.float64],
    nonmembers_b: NDArray[np.float64],
    *,
    alpha: float = 0.05,
    alpha_low: float | None = None,
) -> Estimate:
    """AUC(a) - AUC(b) on the same examples: ``high`` one-sided at alpha, ``low`` at alpha_low (default alpha).

    The same ranking of all examples gives exactly 0 with zero width. Otherwise a Wald interval from the
    covariance of DeLong; where it is 0, the bounds of n = min(M, N) disjoint pairs that all agree.
    """
    members_a, nonmembers_a, members_b, nonmembers_b = checked_scores(members_a, nonmembers_a, members_b, nonmembers_b)
    if members_a.shape != members_b.shape or nonmembers_a.shape != nonmembers_b.shape:
        raise DataError("a paired comparison needs scores of the same examples in both models")
    alpha_low = alpha if alpha_low is None else alpha_low
    confidence, method = 1 - alpha - alpha_low, "paired DeLong"
    m, n = len(members_a), len(nonmembers_a)
    if min(m, n) == 0:
        return not_resolvable(f"{m} members and {n} non-members", confidence=confidence, method=method)
    if same_ranking(np.concatenate([members_a, nonmembers_a]), np.concatenate([members_b, nonmembers_b])):
        return Estimate(0.0, 0.0, 0.0, confidence, method, "both models rank all examples alike")
    if min(m, n) < SMALLEST_DELONG:
        reason = f"{m} members and {n} non-members, at least {SMALLEST_DELONG} of each"
        return not_resolvable(reason, confidence=confidence, method=method)
    (in_a, out_a), (in_b, out_b) = _placements(members_a, nonmembers_a), _placements(members_b, nonmembers_b)
    value = float((in_a - in_b).mean() / n)
    spread = float(np.var(in_a - in_b, ddof=1) / n**2 / m + np.var(out_a - out_b, ddof=1) / m**2 / n) ** 0.5
    if spread == 0.0:
        low, high = unanimous_bounds(value, min(m, n), alpha_low=alpha_low, alpha=alpha)
        return Estimate(value, low, high, confidence, f"Clopper-Pearson over {min(m, n)} disjoint pairs")
    low = max(-1.0, value - normal_quantile(1 - alpha_low) * spread)
    high = min(1.0, value + normal_quantile(1 - alpha) * spread)
    return Estimate(value, low, high, confidence, method)
