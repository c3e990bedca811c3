"""Membership attacks: ``ATTACKS``. Each maps what an attacker has to a score for every example, higher = member."""

from __future__ import annotations

from mobileprune.attacks.base import Attack, seen
from mobileprune.attacks.base_attack import BASE
from mobileprune.attacks.bavaria import BAVARIA, BAVARIA_OFFLINE
from mobileprune.attacks.confidence import CONFIDENCE
from mobileprune.attacks.entropy import ENTROPY
from mobileprune.attacks.evidence import Evidence, Population, References
from mobileprune.attacks.file_attack import GRADIENT_NORM, GRADIENT_PROFILE, MASK_GRADIENT
from mobileprune.attacks.gap import GAP
from mobileprune.attacks.label_only import AUGMENTATIONS, NOISE_ROBUSTNESS
from mobileprune.attacks.lira import LIRA_OFFLINE, LIRA_OFFLINE_FIXED, LIRA_ONLINE, LIRA_ONLINE_FIXED
from mobileprune.attacks.loss import LOSS
from mobileprune.attacks.modified_entropy import MODIFIED_ENTROPY
from mobileprune.attacks.multi_version import VERSION_GAP, VERSION_SUM
from mobileprune.attacks.nasr import NASR
from mobileprune.attacks.outputs import Group, Outputs, Scores, score
from mobileprune.attacks.quantile_regression import QUANTILE_REGRESSION
from mobileprune.attacks.rmia import RMIA, RMIA_ONLINE
from mobileprune.attacks.samia import SAMIA
from mobileprune.attacks.sensitivity import SENSITIVITY
from mobileprune.attacks.shadow_classifier import SHADOW_CLASSIFIER
from mobileprune.config import ACCESS, Access

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        GAP,
        LOSS,
        CONFIDENCE,
        ENTROPY,
        MODIFIED_ENTROPY,
        QUANTILE_REGRESSION,
        AUGMENTATIONS,
        NOISE_ROBUSTNESS,
        SENSITIVITY,
        LIRA_ONLINE,
        LIRA_ONLINE_FIXED,
        LIRA_OFFLINE,
        LIRA_OFFLINE_FIXED,
        RMIA,
        RMIA_ONLINE,
        BASE,
        BAVARIA,
        BAVARIA_OFFLINE,
        SHADOW_CLASSIFIER,
        NASR,
        SAMIA,
        VERSION_SUM,
        VERSION_GAP,
        GRADIENT_NORM,
        GRADIENT_PROFILE,
        MASK_GRADIENT,
    )
}
"""In the order of tables: what needs no more than the answers first."""

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
    "seen",
]
