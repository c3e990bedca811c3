"""The ROC curve as a short list of points for the report, and the band in which another sample's would lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.audit.intervals import Floats, checked_scores

LEAST_FALSE = 5
"""False positives at the left end of a band."""


def roc_points(
    members: NDArray[np.float64], nonmembers: NDArray[np.float64], *, max_points: int = 200
) -> dict[str, list[float]]:
    """{"fpr": [...], "tpr": [...]} from (0, 0) to (1, 1), at most ``max_points`` (>= 4) of the corners.

    Thinned half evenly, half geometrically from the start, where the low FPRs lie. Empty if a side is.
    """
    members, nonmembers = checked_scores(members, nonmembers)
    if min(len(members), len(nonmembers)) == 0:
        return {"fpr": [], "tpr": []}
    from sklearn.metrics import roc_curve

    truth = np.repeat([1, 0], [len(members), len(nonmembers)])
    fpr, tpr, _ = roc_curve(truth, np.concatenate([members, nonmembers]))
    last = len(fpr) - 1
    keep = np.arange(last + 1)
    if len(keep) > max_points:
        half = max_points // 2
        keep = np.unique(np.rint(np.concatenate([np.linspace(0, last, half), np.geomspace(1, last, half)])).astype(int))
    return {"fpr": fpr[keep].tolist(), "tpr": tpr[keep].tolist()}


def roc_band(
    members: NDArray[np.float64],
    nonmembers: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    points: int = 40,
    seed: int = 0,
) -> dict[str, Any]:
    """{"fpr", "low", "high", "confidence", "resamples"}: the pointwise percentile bootstrap interval of the TPR.

    At up to ``points`` false positive rates a / N that N non-members can have, a = 5 ... N, spaced geometrically (with
    fewer false positives a bootstrap does not know the threshold well enough, and the band is too narrow); empty if a
    side is. Both sides are resampled (Macskassy & Provost 2004, vertical averaging), without drawing examples one
    by one: the threshold that a of N resampled non-members exceed is the non-member at the rank u N from the top,
    u ~ Beta(a + 1, N - a), and the members above it are Binomial(M, TPR(u)). Scores that tie lie in the order of a lot.
    """
    members, nonmembers = checked_scores(members, nonmembers)
    m, n = len(members), len(nonmembers)
    band: dict[str, Any] = {"fpr": [], "low": [], "high": [], "confidence": confidence, "resamples": resamples}
    if min(m, n) == 0:
        return band
    allowed = np.unique(np.rint(np.geomspace(min(LEAST_FALSE, n), n, points)).astype(int))
    rng = np.random.default_rng(seed)
    ranks = rng.beta(allowed[:-1] + 1, n - allowed[:-1], size=(resamples, len(allowed) - 1))
    found = rng.binomial(m, _tpr_at_rank(members, nonmembers, ranks)) / m
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail], axis=0)
    return band | {"fpr": (allowed / n).tolist(), "low": [*low.tolist(), 1.0], "high": [*high.tolist(), 1.0]}


def _tpr_at_rank(members: Floats, nonmembers: Floats, ranks: Floats) -> Floats:
    """The share of members above the non-member at ``ranks`` (any shape, 0 the highest, 1 the lowest).

    Of members that tie with it, the share that its place among its equals leaves above.
    """
    ordered = np.sort(nonmembers)
    at = ordered[len(ordered) - 1 - np.minimum((ranks * len(ordered)).astype(int), len(ordered) - 1)]
    above = len(ordered) - np.searchsorted(ordered, at, side="right")
    equal = len(ordered) - np.searchsorted(ordered, at, side="left") - above
    theirs = np.sort(members)
    higher = len(theirs) - np.searchsorted(theirs, at, side="right")
    tied = len(theirs) - np.searchsorted(theirs, at, side="left") - higher
    return np.asarray((higher + tied * (ranks * len(ordered) - above) / equal) / len(theirs))
