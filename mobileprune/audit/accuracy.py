"""Balanced accuracy of an attacker who knows half of the membership and guesses the other half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobileprune.audit.intervals import Estimate, Floats, checked_scores, clopper_pearson, mover_mean, not_resolvable
from mobileprune.errors import UsageError

SMALLEST_CLASS = 5
"""With fewer known examples on a side a class uses the threshold of all classes."""

Ints = NDArray[np.int64]


def best_threshold(members: Floats, nonmembers: Floats) -> float:
    """The t that maximises (P(member > t) + P(non-member <= t)) / 2: midway between scores or -inf; lowest of equal."""
    values = np.unique(np.concatenate([members, nonmembers]))
    above = len(members) - np.searchsorted(np.sort(members), values, side="right")
    below = np.searchsorted(np.sort(nonmembers), values, side="right")
    # Integers, so that equal accuracies compare equal; the first candidate calls everyone a member.
    gain = np.concatenate([[len(members) * len(nonmembers)], above * len(nonmembers) + below * len(members)])
    best = int(gain.argmax())
    if best == 0:
        return -np.inf
    lower = float(values[best - 1])
    upper = float(values[best])  # there is one: calling no one a member is as good as calling everyone one
    middle = lower + (upper - lower) / 2
    return middle if middle < upper else lower


def balanced_accuracy(
    members: NDArray[np.float64],
    nonmembers: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    class_thresholds: bool = False,
    member_labels: NDArray[np.int64] | None = None,
    nonmember_labels: NDArray[np.int64] | None = None,
) -> Estimate:
    """(TPR + TNR) / 2 of scores (M,) and (N,), cross-fitted over the even- and the odd-indexed examples.

    The threshold that is best on one fold judges the other, so none is tuned on what it judges; TPR and
    TNR are pooled, the interval is MOVER over their Clopper-Pearson intervals. ``class_thresholds`` fits
    one threshold per label (Song & Mittal, arXiv 2003.10595), falling back to the common one where a
    class has fewer than 5 members or non-members in the fitting fold.
    """
    members, nonmembers = checked_scores(members, nonmembers)
    labels: tuple[Ints, Ints] | None = None
    if class_thresholds:
        if member_labels is None or nonmember_labels is None:
            raise UsageError("class_thresholds needs member_labels and nonmember_labels")
        labels = np.asarray(member_labels), np.asarray(nonmember_labels)
    method = "cross-fitted thresholds" + (" per class" if class_thresholds else "") + ", MOVER of Clopper-Pearson"
    m, n = len(members), len(nonmembers)
    if min(m, n) < 2:
        reason = f"{m} members and {n} non-members, at least 2 of each"
        return not_resolvable(reason, confidence=confidence, method=method)
    found = rejected = 0
    for fold in (0, 1):
        fit, judge = slice(fold, None, 2), slice(1 - fold, None, 2)
        default = best_threshold(members[fit], nonmembers[fit])
        upper, lower = np.full(m, default), np.full(n, default)
        if labels:
            inside, outside = labels
            for label, own in _class_thresholds(members[fit], nonmembers[fit], inside[fit], outside[fit]).items():
                upper[inside == label] = lower[outside == label] = own
        found += int((members[judge] > upper[judge]).sum())
        rejected += int((nonmembers[judge] <= lower[judge]).sum())
    tpr = (found / m, *clopper_pearson(found, m, confidence=confidence))
    tnr = (rejected / n, *clopper_pearson(rejected, n, confidence=confidence))
    value, low, high = mover_mean(tpr, tnr)
    return Estimate(value, low, high, confidence, method)


def _class_thresholds(members: Floats, nonmembers: Floats, inside: Ints, outside: Ints) -> dict[int, float]:
    fitted = {}
    for label in np.intersect1d(inside, outside):
        own, other = members[inside == label], nonmembers[outside == label]
        if min(len(own), len(other)) >= SMALLEST_CLASS:
            fitted[int(label)] = best_threshold(own, other)
    return fitted
