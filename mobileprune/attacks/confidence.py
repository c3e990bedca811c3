"""The logit-scaled confidence of LiRA, without reference models."""

from __future__ import annotations

from mobileprune.attacks.base import Attack, logit_confidence
from mobileprune.attacks.evidence import Evidence, Floats


def score(evidence: Evidence) -> Floats:
    """phi = log p_y - log sum_{j != y} p_j. From rounded probabilities it saturates (p_y = 1): access "logits"."""
    return logit_confidence(evidence.logits, evidence.labels)


CONFIDENCE = Attack("confidence", "logits", score, "Carlini et al., arXiv 2112.03570, section V")
