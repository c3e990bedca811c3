"""What an attacker gets at a low false-positive rate: TPR, PPV, and the paired difference of TPRs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mobileprune.audit.auc import same_ranking
from mobileprune.audit.bootstrap import resampled_differences, resamples_for
from mobileprune.audit.intervals import (
    Estimate,
    Floats,
    checked_scores,
    clopper_pearson,
    mover_difference,
    not_resolvable,
    unanimous_bounds,
)
from mobileprune.errors import DataError, UsageError


def allowed_false_positives(nonmembers: int, fpr: float) -> int:
    """The false positives that keep the empirical FPR <= fpr (0.29 * 100 must give 29)."""
    if not 0 < fpr < 1:
        raise UsageError(f"fpr must lie between 0 and 1, got {fpr}")
    return math.floor(fpr * nonmembers + 1e-9)


def threshold_at_fpr(nonmembers: Floats, fpr: float) -> float:
    """The smallest score t with #{nonmembers > t} / N <= fpr; a score above t, strictly, is called a member."""
    kth = len(nonmembers) - 1 - allowed_false_positives(len(nonmembers), fpr)
    return float(np.partition(nonmembers, kth)[kth])


def _found(members: Floats, nonmembers: Floats, fpr: float) -> Floats:
    """(..., M) the chance of each member to be found at ``fpr`` by an attacker who tosses a coin where scores tie.

    Above the threshold t always, at t with the probability that uses up the false positives: outputs that are
    coarse on purpose (label only) tie at t, and "strictly above" alone would find nobody.
    """
    allowed = allowed_false_positives(nonmembers.shape[-1], fpr)
    kth = nonmembers.shape[-1] - 1 - allowed
    t = np.partition(nonmembers, kth, axis=-1)[..., kth, None]
    share = (allowed - (nonmembers > t).sum(axis=-1)) / (nonmembers == t).sum(axis=-1)
    return np.asarray((members > t) + share[..., None] * (members == t), dtype=np.float64)


def _rate_bounds(hits: float, count: int, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson of a count that ties may have made fractional: the wider side each."""
    low, _ = clopper_pearson(math.floor(hits + 1e-9), count, confidence=confidence)
    _, high = clopper_pearson(math.ceil(hits - 1e-9), count, confidence=confidence)
    return low, high


def why_not_resolvable(members: int, nonmembers: int, fpr: float) -> str | None:
    """Why a TPR at ``fpr`` cannot be had from so many examples, or None."""
    if members == 0:
        return "there are no members"
    if allowed_false_positives(nonmembers, fpr) < 1:
        return f"an FPR of {fpr:g} needs at least {math.ceil(1 / fpr - 1e-9)} non-members, there are {nonmembers}"
    return None


def tpr_at_fpr(
    members: NDArray[np.float64], nonmembers: NDArray[np.float64], *, fpr: float, confidence: float = 0.95
) -> Estimate:
    """TPR at the smallest threshold with empirical FPR <= fpr, ties by lot; Clopper-Pearson given that threshold.

    The interval is for the rate at the threshold used, whose true FPR varies from sample to sample around ``fpr``: for
    the TPR at a true FPR of ``fpr`` it is too narrow. Not resolvable with fewer than 1 / fpr non-members.
    """
    members, nonmembers = checked_scores(members, nonmembers)
    method = "Clopper-Pearson"
    if reason := why_not_resolvable(len(members), len(nonmembers), fpr):
        return not_resolvable(reason, confidence=confidence, method=method)
    hits = float(_found(members, nonmembers, fpr).sum())
    low, high = _rate_bounds(hits, len(members), confidence)
    return Estimate(hits / len(members), low, high, confidence, method)


def ppv(
    members: NDArray[np.float64],
    nonmembers: NDArray[np.float64],
    *,
    prior: float,
    fpr: float = 0.01,
    confidence: float = 0.95,
) -> Estimate:
    """prior TPR / (prior TPR + (1 - prior) FPR) at the threshold for ``fpr`` (arXiv 2005.10881).

    Bounds from Clopper-Pearson intervals of TPR and FPR, each at 1 - (1 - confidence) / 2.
    """
    if not 0 < prior < 1:
        raise UsageError(f"prior must lie between 0 and 1, got {prior}")
    members, nonmembers = checked_scores(members, nonmembers)
    method = "Clopper-Pearson of TPR and FPR"
    if reason := why_not_resolvable(len(members), len(nonmembers), fpr):
        return not_resolvable(reason, confidence=confidence, method=method)
    threshold = threshold_at_fpr(nonmembers, fpr)
    found, false = int((members > threshold).sum()), int((nonmembers > threshold).sum())
    if found + false == 0:
        return not_resolvable("no example lies above the threshold", confidence=confidence, method=method)
    each = 1 - (1 - confidence) / 2
    tpr_low, tpr_high = clopper_pearson(found, len(members), confidence=each)
    fpr_low, fpr_high = clopper_pearson(false, len(nonmembers), confidence=each)

    def value(true_rate: float, false_rate: float) -> float:
        return prior * true_rate / (prior * true_rate + (1 - prior) * false_rate)

    return Estimate(
        value(found / len(members), false / len(nonmembers)),
        value(tpr_low, fpr_high),
        value(tpr_high, fpr_low),
        confidence,
        method,
    )


def paired_tpr_difference(
    members_a: NDArray[np.float64],
    nonmembers_a: NDArray[np.float64],
    members_b: NDArray[np.float64],
    nonmembers_b: NDArray[np.float64],
    *,
    fpr: float = 0.01,
    alpha: float = 0.05,
    alpha_low: float | None = None,
    seed: int = 0,
) -> Estimate:
    """TPR(a) - TPR(b) at ``fpr`` on the same examples: ``high`` one-sided at alpha, ``low`` at alpha_low.

    The wider of two: a paired percentile bootstrap of members and of non-members, thresholds estimated anew in each
    resample, and MOVER from Clopper-Pearson of how many members are found by one alone, thresholds as they are: the
    bootstrap of a few such members is too narrow. The same ranking gives exactly 0 with zero width; where all resamples
    agree although the rankings differ, the bounds are those of min(M, N) examples that all agree.
    """
    members_a, nonmembers_a, members_b, nonmembers_b = checked_scores(members_a, nonmembers_a, members_b, nonmembers_b)
    if members_a.shape != members_b.shape or nonmembers_a.shape != nonmembers_b.shape:
        raise DataError("a paired comparison needs scores of the same examples in both models")
    m, n = len(members_a), len(nonmembers_a)
    alpha_low = alpha if alpha_low is None else alpha_low
    resamples = resamples_for(min(alpha, alpha_low))
    confidence, method = 1 - alpha - alpha_low, f"paired bootstrap, {resamples} resamples"
    if reason := why_not_resolvable(m, n, fpr):
        return not_resolvable(reason, confidence=confidence, method=method)
    if same_ranking(np.concatenate([members_a, nonmembers_a]), np.concatenate([members_b, nonmembers_b])):
        return Estimate(0.0, 0.0, 0.0, confidence, method, "both models rank all examples alike")

    found_a, found_b = _found(members_a, nonmembers_a, fpr), _found(members_b, nonmembers_b, fpr)
    value, low, high = _by_counting(found_a, found_b, alpha=alpha, alpha_low=alpha_low)
    drawn = resampled_differences(
        (members_a, nonmembers_a),
        (members_b, nonmembers_b),
        allowed_false_positives(n, fpr),
        np.random.default_rng(seed),
        resamples,
    )
    if np.ptp(drawn) == 0.0:
        low, high = unanimous_bounds(value, min(m, n), alpha_low=alpha_low, alpha=alpha)
    else:
        low = min(low, float(np.quantile(drawn, alpha_low, method="lower"))) if alpha_low * resamples >= 1 else -1.0
        high = max(high, float(np.quantile(drawn, 1 - alpha, method="higher"))) if alpha * resamples >= 1 else 1.0
    return Estimate(value, low, high, confidence, method)


def _by_counting(found_a: Floats, found_b: Floats, *, alpha: float, alpha_low: float) -> tuple[float, float, float]:
    """Mean of a - b (value, low, high), from the members that are found by the one and not by the other."""

    def share(count: float, tail_low: float, tail_high: float) -> tuple[float, float, float]:
        low, _ = clopper_pearson(count, len(found_a), confidence=1 - 2 * tail_low)
        _, high = clopper_pearson(count, len(found_a), confidence=1 - 2 * tail_high)
        return count / len(found_a), low, high

    gained, lost = (round(float(side.clip(0).sum()), 9) for side in (found_a - found_b, found_b - found_a))
    return mover_difference(share(gained, alpha_low, alpha), share(lost, alpha, alpha_low))
