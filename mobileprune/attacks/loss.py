"""The loss attack: members have a smaller cross-entropy."""

from __future__ import annotations

from mobileprune.attacks.base import Attack, log_confidence
from mobileprune.attacks.evidence import Evidence, Floats


def score(evidence: Evidence) -> Floats:
    """log p_y, the negative cross-entropy. Of a model that shows the k likeliest classes only, the floor for others."""
    return log_confidence(evidence.logits, evidence.labels)


LOSS = Attack("loss", "top-k", score, "Yeom et al., arXiv 1709.01604")
