"""Membership attacks: ``ATTACKS``. Each maps what an attacker has to a score for every example, higher = member."""

from __future__ import annotations

from mobileprune.attacks.base import ACCESS, Access, Attack
from mobileprune.attacks.confidence import CONFIDENCE
from mobileprune.attacks.entropy import ENTROPY
from mobileprune.attacks.evidence import Evidence, Population, References
from mobileprune.attacks.gap import GAP
from mobileprune.attacks.loss import LOSS
from mobileprune.attacks.modified_entropy import MODIFIED_ENTROPY
from mobileprune.attacks.outputs import Group, Outputs, Scores, score

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (GAP, LOSS, CONFIDENCE, ENTROPY, MODIFIED_ENTROPY)}

__all__ = [
    "ACCESS",
    "ATTACKS",
    "Access",
    "Attack",
    "Evidence",
    "Group",
    "Outputs",
    "Population",
    "References",
    "Scores",
    "score",
]
