"""Evidence with the truth beside it, which attacks do not see, and the scores that attacks give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Bools, Evidence, Floats, Ints
from mobileprune.config import ACCESS, Access
from mobileprune.errors import DataError

Group = Literal["all", "canaries"]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What is known of N examples, ``member`` (N,) whether the model was trained on them, ``canary`` (N,) which of
    them carry a wrong label. Raises DataError for masks that do not fit."""

    evidence: Evidence
    member: Bools
    canary: Bools

    def __post_init__(self) -> None:
        for name in ("member", "canary"):
            mask = np.asarray(getattr(self, name))
            if mask.dtype != np.bool_ or mask.shape != (len(self.evidence),):
                raise DataError(f"{name} must be bool of shape ({len(self.evidence)},), got {mask.dtype} {mask.shape}")

    def accuracy(self, member: bool) -> float:
        """Share of the members, or of the non-members, that the model classifies as they are labelled."""
        inside, e = self.member == member, self.evidence
        return float((e.logits[inside].argmax(1) == e.labels[inside]).mean())


@dataclass(frozen=True, eq=False)
class Scores:
    """Each attack's scores (N,) of the same examples, higher = member; ``skipped``: attack -> why it has none."""

    by_attack: Mapping[str, Floats]
    access: Mapping[str, Access]
    skipped: Mapping[str, str]
    labels: Ints
    member: Bools
    canary: Bools

    def sides(self, attack: str) -> tuple[Floats, Floats]:
        """Scores of members (M,) and of non-members (N - M,)."""
        scores = self.by_attack[attack]
        return scores[self.member], scores[~self.member]

    def counts(self) -> tuple[int, int]:
        """Members, non-members."""
        return int(self.member.sum()), int((~self.member).sum())

    def groups(self) -> dict[Group, Scores]:
        """All examples, and the canaries where there are at least 2 on both sides."""
        found: dict[Group, Scores] = {"all": self}
        canaries = self.where(self.canary)
        if min(canaries.counts()) >= 2:
            found["canaries"] = canaries
        return found

    def where(self, mask: Bools) -> Scores:
        """The scores of some examples, in the same order."""
        return replace(
            self,
            by_attack={name: scores[mask] for name, scores in self.by_attack.items()},
            labels=self.labels[mask],
            member=self.member[mask],
            canary=self.canary[mask],
        )


def score(outputs: Outputs, attacks: Mapping[str, Attack], access: Access = "file") -> Scores:
    """Every attack that ``access`` and the evidence allow; why the others are left out is in ``skipped``."""
    evidence, scores, skipped = outputs.evidence, {}, {}
    for name, attack in attacks.items():
        if reason := _reason(attack, evidence, access):
            skipped[name] = reason
        else:
            scores[name] = attack.score(evidence)
    kept = {name: attacks[name].access for name in scores}
    return Scores(scores, kept, skipped, evidence.labels, outputs.member, outputs.canary)


def _reason(attack: Attack, evidence: Evidence, access: Access) -> str | None:
    if ACCESS.index(attack.access) > ACCESS.index(access):
        return f"needs {attack.access}, and only {access} are given"
    missing = [need for need in attack.needs if not evidence.has(need)]
    if missing:
        return f"needs {', '.join(missing)}"
    return attack.refuses(evidence) if attack.refuses else None
