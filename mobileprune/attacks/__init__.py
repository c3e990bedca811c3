"""Black-box membership attacks: each maps logits and labels to a score, higher = member."""

from __future__ import annotations

from mobileprune.attacks.base import ACCESS, Access, Attack, Outputs
from mobileprune.attacks.confidence import CONFIDENCE
from mobileprune.attacks.entropy import ENTROPY
from mobileprune.attacks.gap import GAP
from mobileprune.attacks.loss import LOSS
from mobileprune.attacks.modified_entropy import MODIFIED_ENTROPY

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (GAP, LOSS, CONFIDENCE, ENTROPY, MODIFIED_ENTROPY)}

__all__ = ["ACCESS", "ATTACKS", "Access", "Attack", "Outputs"]
