"""Runs every attack on one model's outputs, or on two models' outputs of the same examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mobileprune.attacks import ATTACKS, Access, Outputs
from mobileprune.audit import statistics
from mobileprune.audit.statistics import Estimate
from mobileprune.errors import DataError

Group = Literal["all", "canaries"]
Metric = Literal["auc", "tpr_at_1pct_fpr"]


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


def groups(outputs: Outputs) -> dict[Group, Outputs]:
    """All examples, and the canaries where there are at least 2 on both sides."""
    found: dict[Group, Outputs] = {"all": outputs}
    canaries = outputs.subset(True)
    if min(len(canaries.members), len(canaries.nonmembers)) >= 2:
        found["canaries"] = canaries
    return found


def scores(attack: str, outputs: Outputs) -> tuple[np.ndarray[Any, np.dtype[np.float64]], ...]:
    """The attack's scores of members (M,) and non-members (N,)."""
    score = ATTACKS[attack].score
    return score(outputs.members, outputs.member_labels), score(outputs.nonmembers, outputs.nonmember_labels)


def measure(outputs: Outputs, *, confidence: float = 0.95) -> dict[Group, dict[str, Measurement]]:
    """Every metric of every attack, by group and attack name."""
    return {
        group: {name: _measure(name, part, confidence) for name in ATTACKS} for group, part in groups(outputs).items()
    }


def _measure(name: str, outputs: Outputs, confidence: float) -> Measurement:
    members, nonmembers = scores(name, outputs)
    return Measurement(
        attack=name,
        access=ATTACKS[name].access,
        members=len(members),
        nonmembers=len(nonmembers),
        auc=statistics.auc(members, nonmembers, confidence=confidence),
        tpr_at_1pct_fpr=statistics.tpr_at_fpr(members, nonmembers, fpr=0.01, confidence=confidence),
        tpr_at_01pct_fpr=statistics.tpr_at_fpr(members, nonmembers, fpr=0.001, confidence=confidence),
        ppv_at_prior_1pct=statistics.ppv(members, nonmembers, prior=0.01, confidence=confidence),
        ppv_at_prior_10pct=statistics.ppv(members, nonmembers, prior=0.1, confidence=confidence),
        balanced_accuracy=statistics.balanced_accuracy(
            members,
            nonmembers,
            confidence=confidence,
            class_thresholds=name == "modified_entropy",
            member_labels=outputs.member_labels,
            nonmember_labels=outputs.nonmember_labels,
        ),
        roc=statistics.roc_points(members, nonmembers),
    )


def check_paired(artifact: Outputs, source: Outputs) -> None:
    """DataError unless both are outputs for the same examples in the same order, as far as can be seen."""
    for name in ("member_labels", "nonmember_labels", "member_groups", "nonmember_groups"):
        if not np.array_equal(getattr(artifact, name), getattr(source, name)):
            raise DataError(
                f"artifact and source must be asked about the same examples in the same order: {name} differ"
            )


def against_ceiling(outputs: Outputs, group: Group, *, limit: float, alpha: float) -> list[Comparison]:
    """Every attack's AUC: ``high`` one-sided at alpha, ``low`` at alpha / number of attacks."""
    compared = []
    for name in ATTACKS:
        members, nonmembers = scores(name, outputs)
        upper = statistics.auc(members, nonmembers, confidence=1 - 2 * alpha)
        lower = statistics.auc(members, nonmembers, confidence=1 - 2 * alpha / len(ATTACKS))
        estimate = Estimate(
            upper.value, lower.low, upper.high, 1 - alpha - alpha / len(ATTACKS), upper.method, upper.note
        )
        compared.append(Comparison(name, group, "auc", estimate, limit))
    return compared


def against_source(
    artifact: Outputs, source: Outputs, *, auc_margin: float, tpr_margin: float, alpha: float
) -> list[Comparison]:
    """Artifact minus source for every attack, group and metric; TPR only where it is resolvable.

    ``high`` is one-sided at alpha, ``low`` at alpha / number of comparisons.
    """
    check_paired(artifact, source)
    paired = {group: (part, groups(source)[group]) for group, part in groups(artifact).items()}
    alpha_low = alpha / (2 * len(ATTACKS) * len(paired))
    compared = []
    for group, (ours, theirs) in paired.items():
        for name in ATTACKS:
            both = (*scores(name, ours), *scores(name, theirs))
            area = statistics.paired_auc_difference(*both, alpha=alpha, alpha_low=alpha_low)
            rate = statistics.paired_tpr_difference(*both, fpr=0.01, alpha=alpha, alpha_low=alpha_low)
            compared.append(Comparison(name, group, "auc", area, auc_margin))
            if rate.value is not None:
                compared.append(Comparison(name, group, "tpr_at_1pct_fpr", rate, tpr_margin))
    return compared
