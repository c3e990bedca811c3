"""Who is exposed: the AUC per class and per kind of example, and the members that stand out most.

Examples are named by their position in the scores and by their file, where they have one; never shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mobileprune.attacks import Scores
from mobileprune.attacks.evidence import Bools
from mobileprune.audit.auc import SMALLEST_DELONG, auc
from mobileprune.audit.intervals import Estimate, not_resolvable
from mobileprune.audit.rates import threshold_at_fpr, why_not_resolvable

METHOD = "simultaneous (Bonferroni)"


@dataclass(frozen=True)
class Example:
    """One member: its position in the scores, its label, whether it is a canary, its score, and its file if known."""

    position: int
    label: int
    canary: bool
    score: float
    file: str | None


@dataclass(frozen=True)
class Exposed:
    """The members whose score exceeds the threshold that ``fpr`` of the non-members exceed.

    ``found`` of them in all, of which ``by_chance`` = fpr x members would be expected without any leak;
    ``examples``: those with the highest scores. ``note``: why there is no threshold.
    """

    attack: str
    fpr: float
    threshold: float | None
    found: int
    by_chance: float
    examples: tuple[Example, ...]
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "examples": [asdict(example) for example in self.examples]}


@dataclass(frozen=True)
class Exposure:
    """One attack: whom it finds, and its AUC by class and, where there are canaries, by kind, each with simultaneous
    intervals."""

    attack: str
    by_class: dict[str, Estimate]
    by_kind: dict[str, Estimate]
    most_exposed: Exposed

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "attack": self.attack,
            "by_class": {name: estimate.to_dict() for name, estimate in self.by_class.items()},
            "by_kind": {name: estimate.to_dict() for name, estimate in self.by_kind.items()},
            "most_exposed": self.most_exposed.to_dict(),
        }


def exposure(
    scores: Scores,
    attack: str,
    *,
    fpr: float = 0.01,
    k: int = 10,
    confidence: float = 0.95,
    files: Sequence[str] = (),
) -> Exposure:
    """The breakdown of one attack by the labels and the kinds of examples that occur, and its k surest members.

    The intervals hold for every attack in ``scores``, so also for one that was chosen because it found the most.
    ``files``: of every example, if any are known.
    """
    attacks = len(scores.by_attack)
    classes = {str(label): scores.labels == label for label in np.unique(scores.labels)}
    kinds = {"canaries": scores.canary, "others": ~scores.canary} if scores.canary.any() else {}
    return Exposure(
        attack,
        breakdown(scores, attack, classes, confidence=confidence, attacks=attacks),
        breakdown(scores, attack, kinds, confidence=confidence, attacks=attacks),
        most_exposed(scores, attack, fpr=fpr, k=k, files=files),
    )


def breakdown(
    scores: Scores, attack: str, groups: Mapping[str, Bools], *, confidence: float = 0.95, attacks: int = 1
) -> dict[str, Estimate]:
    """AUC within each group, masks (N,), with intervals that hold for all groups together.

    Bonferroni: each at 1 - (1 - confidence) / (G A) for the G groups with at least 10 members and 10 non-members, where
    ``attack`` was chosen among A ``attacks``; the others are not resolvable. G depends on the groups' sizes only. A
    group must not be made from scores.
    """
    parts = {name: scores.where(mask) for name, mask in groups.items()}
    large = [name for name, part in parts.items() if min(part.counts()) >= SMALLEST_DELONG]
    found = {}
    for name, part in parts.items():
        if name in large:
            each = auc(*part.sides(attack), confidence=1 - (1 - confidence) / (len(large) * attacks))
            method = f"{each.method}, {METHOD} over {len(large)} groups and {attacks} attacks"
            found[name] = Estimate(each.value, each.low, each.high, confidence, method)
        else:
            m, n = part.counts()
            reason = f"{m} members and {n} non-members, at least {SMALLEST_DELONG} of each"
            found[name] = not_resolvable(reason, confidence=confidence, method=METHOD)
    return found


def most_exposed(scores: Scores, attack: str, *, fpr: float = 0.01, k: int = 10, files: Sequence[str] = ()) -> Exposed:
    """The at most k members with the highest scores strictly above the threshold for ``fpr``; of equal ones the first.

    The threshold is the smallest score with an empirical FPR <= fpr; it needs 1 / fpr non-members.
    """
    values, (m, n) = scores.by_attack[attack], scores.counts()
    if reason := why_not_resolvable(m, n, fpr):
        return Exposed(attack, fpr, None, 0, fpr * m, (), f"not resolvable: {reason}")
    threshold = threshold_at_fpr(values[~scores.member], fpr)
    above = np.flatnonzero(scores.member & (values > threshold))
    surest = above[np.argsort(-values[above], kind="stable")][:k]
    examples = (
        Example(int(i), int(scores.labels[i]), bool(scores.canary[i]), float(values[i]), files[i] if files else None)
        for i in surest
    )
    return Exposed(attack, fpr, threshold, len(above), fpr * m, tuple(examples))
