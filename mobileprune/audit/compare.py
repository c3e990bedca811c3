"""What every attack reaches on one model, and how two models' scores of the same examples differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mobileprune.attacks import Access, Group, Scores
from mobileprune.audit.accuracy import balanced_accuracy
from mobileprune.audit.auc import auc, paired_auc_difference
from mobileprune.audit.intervals import Estimate, Floats
from mobileprune.audit.rates import paired_tpr_difference, ppv, tpr_at_fpr
from mobileprune.audit.roc import roc_points
from mobileprune.errors import DataError

Metric = Literal["auc", "tpr_at_1pct_fpr"]
CHANCE = 0.5
"""The AUC of a guess."""


@dataclass(frozen=True)
class Measurement:
    """One attack on one group of examples."""

    attack: str
    access: Access
    members: int
    nonmembers: int
    auc: Estimate
    tpr_at_1pct_fpr: Estimate
    tpr_at_01pct_fpr: Estimate
    ppv_at_prior_1pct: Estimate
    ppv_at_prior_10pct: Estimate
    balanced_accuracy: Estimate
    roc: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in vars(self).items()}


@dataclass(frozen=True)
class Comparison:
    """One attack's number held against a limit: ``low`` and ``high`` of the estimate are one-sided bounds."""

    attack: str
    group: Group
    metric: Metric
    estimate: Estimate
    limit: float


def measure(scores: Scores, *, confidence: float = 0.95) -> dict[Group, dict[str, Measurement]]:
    """Every metric of every attack, by group and attack name."""
    return {
        group: {name: _measure(name, part, confidence) for name in part.by_attack}
        for group, part in scores.groups().items()
    }


def _measure(name: str, scores: Scores, confidence: float) -> Measurement:
    members, nonmembers = scores.sides(name)
    return Measurement(
        attack=name,
        access=scores.access[name],
        members=len(members),
        nonmembers=len(nonmembers),
        auc=auc(members, nonmembers, confidence=confidence),
        tpr_at_1pct_fpr=tpr_at_fpr(members, nonmembers, fpr=0.01, confidence=confidence),
        tpr_at_01pct_fpr=tpr_at_fpr(members, nonmembers, fpr=0.001, confidence=confidence),
        ppv_at_prior_1pct=ppv(members, nonmembers, prior=0.01, confidence=confidence),
        ppv_at_prior_10pct=ppv(members, nonmembers, prior=0.1, confidence=confidence),
        balanced_accuracy=balanced_accuracy(
            members,
            nonmembers,
            confidence=confidence,
            class_thresholds=name == "modified_entropy",
            member_labels=scores.labels[scores.member],
            nonmember_labels=scores.labels[~scores.member],
        ),
        roc=roc_points(members, nonmembers),
    )


def check_paired(artifact: Scores, source: Scores) -> None:
    """DataError unless both are scores of the same examples in the same order, as far as can be seen."""
    for name in ("labels", "member", "canary"):
        if not np.array_equal(getattr(artifact, name), getattr(source, name)):
            raise DataError(
                f"artifact and source must be asked about the same examples in the same order: {name} differ"
            )


def paired_auc(artifact: Scores, other: Scores, *, confidence: float = 0.95) -> dict[Group, dict[str, Estimate]]:
    """AUC of the one minus that of the other on the same examples, for every attack on both, two-sided."""
    check_paired(artifact, other)
    tail, others = (1 - confidence) / 2, other.groups()
    return {
        group: {
            name: paired_auc_difference(*part.sides(name), *others[group].sides(name), alpha=tail)
            for name in part.by_attack
            if name in others[group].by_attack
        }
        for group, part in artifact.groups().items()
    }


def against_ceiling(scores: Scores, group: Group, *, limit: float, alpha: float) -> list[Comparison]:
    """Every attack's AUC, and that of its scores reversed: ``high`` one-sided at alpha, ``low`` at alpha / comparisons.

    Who ranks members last has told them apart as well as who ranks them first.
    """
    compared, attacks = [], scores.by_attack
    alpha_low = alpha / (2 * len(attacks)) if attacks else alpha
    for name in attacks:
        members, nonmembers = scores.sides(name)
        for said, sides in ((name, (members, nonmembers)), (f"reversed {name}", (-members, -nonmembers))):
            compared.append(Comparison(said, group, "auc", _bounded(*sides, alpha=alpha, alpha_low=alpha_low), limit))
    return compared


def _bounded(members: Floats, nonmembers: Floats, *, alpha: float, alpha_low: float) -> Estimate:
    """The AUC: ``high`` one-sided at alpha, ``low`` at alpha_low."""
    upper = auc(members, nonmembers, confidence=1 - 2 * alpha)
    lower = auc(members, nonmembers, confidence=1 - 2 * alpha_low)
    return Estimate(upper.value, lower.low, upper.high, 1 - alpha - alpha_low, upper.method, upper.note)


def added_auc(
    members: Floats,
    nonmembers: Floats,
    source_members: Floats,
    source_nonmembers: Floats,
    *,
    alpha: float,
    alpha_low: float,
) -> Estimate:
    """What the artifact's AUC has gained over its source's, or over chance where the source's surely lies below that.

    Scores that a source ranks the wrong way round and an artifact hides (outputs rounded until they are all alike)
    rise to 1/2, and nothing has leaked: AUC(artifact) - max(AUC(source), 1/2). Surely: at alpha_low, so that a source
    which only seems to lie below passes at most alpha x alpha_low more often.
    """
    theirs = auc(source_members, source_nonmembers, confidence=1 - 2 * alpha_low)
    if theirs.high is None or theirs.high >= CHANCE:
        sides = (members, nonmembers, source_members, source_nonmembers)
        return paired_auc_difference(*sides, alpha=alpha, alpha_low=alpha_low)
    ours = _bounded(members, nonmembers, alpha=alpha, alpha_low=alpha_low)
    value, low, high = (None if edge is None else edge - CHANCE for edge in (ours.value, ours.low, ours.high))
    return Estimate(value, low, high, ours.confidence, f"{ours.method}, above chance", ours.note)


def against_source(
    artifact: Scores, source: Scores, *, auc_margin: float, tpr_margin: float, alpha: float
) -> list[Comparison]:
    """What the artifact has above its source, for every attack on both, group and metric; TPR where it is resolvable.

    ``high`` is one-sided at alpha, ``low`` at alpha / number of comparisons.
    """
    check_paired(artifact, source)
    both = [name for name in artifact.by_attack if name in source.by_attack]
    theirs = source.groups()
    paired = {group: (part, theirs[group]) for group, part in artifact.groups().items()}
    alpha_low = alpha / (2 * len(both) * len(paired))
    compared = []
    for group, (ours, others) in paired.items():
        for name in both:
            sides = (*ours.sides(name), *others.sides(name))
            area = added_auc(*sides, alpha=alpha, alpha_low=alpha_low)
            rate = paired_tpr_difference(*sides, fpr=0.01, alpha=alpha, alpha_low=alpha_low)
            compared.append(Comparison(name, group, "auc", area, auc_margin))
            if rate.value is not None:
                compared.append(Comparison(name, group, "tpr_at_1pct_fpr", rate, tpr_margin))
    return compared
