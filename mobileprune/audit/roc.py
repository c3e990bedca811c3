"""The ROC curve as a short list of points for the report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobileprune.audit.intervals import checked_scores


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
