"""How one attack's scores spread over members and non-members, and how sure its ROC curve is: what a report draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mobileprune.attacks import Group, Scores
from mobileprune.audit.intervals import Floats, checked_scores
from mobileprune.audit.roc import roc_band
from mobileprune.audit.selection import highest_auc

BINS = 30
TAIL = 0.005
"""The share of all scores on each side that the outermost bins take in, however far out they lie."""
QUANTILES: tuple[tuple[float, Literal["lower", "higher"]], ...] = ((TAIL, "lower"), (1 - TAIL, "higher"))


@dataclass(frozen=True)
class Distribution:
    """``band`` as :func:`mobileprune.audit.roc.roc_band`, ``histogram`` as :func:`histogram` give them."""

    attack: str
    band: dict[str, Any]
    histogram: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))


def distributions(scores: Scores) -> dict[Group, Distribution]:
    """Of the attack with the highest AUC in each group; empty where no attack could be run."""
    found: dict[Group, Distribution] = {}
    for group, part in scores.groups().items():
        if part.by_attack:
            attack = highest_auc(part)
            sides = part.sides(attack)
            found[group] = Distribution(attack, roc_band(*sides), histogram(*sides))
    return found


def histogram(members: Floats, nonmembers: Floats) -> dict[str, list[float]]:
    """{"edges" (B + 1,), "members" (B,), "nonmembers" (B,)}: counts in up to 30 bins of equal width.

    The bins span all but the lowest and the highest 0.5 % of the scores, which the outermost bins count in.
    """
    members, nonmembers = checked_scores(members, nonmembers)
    both = np.concatenate([members, nonmembers])
    if not len(both):
        return {"edges": [], "members": [], "nonmembers": []}
    low, high = (float(np.quantile(both, at, method=side)) for at, side in QUANTILES)
    # By halves, since the distance of two finite numbers can be infinite.
    edges = 2 * np.linspace(low / 2, high / 2, BINS + 1) if low < high else np.array([low - 0.5, low + 0.5])
    if not (np.diff(edges) > 0).all():  # numbers too close to each other to lie 30 apart
        edges = np.array([low, high])
    counts = (np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0].tolist() for side in (members, nonmembers))
    return {"edges": edges.tolist(), **dict(zip(("members", "nonmembers"), counts, strict=True))}
