"""The entropy attack: predictions on members are sharper, whatever the label."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, log_probabilities
from mobileprune.attacks.evidence import Evidence, Floats


def score(evidence: Evidence) -> Floats:
    """sum_j p_j log p_j, the negative prediction entropy. Labels are not used."""
    log_p, _ = log_probabilities(evidence.logits)
    total: Floats = np.sort(np.exp(log_p) * log_p, axis=1).sum(axis=1)
    return total


ENTROPY = Attack("entropy", "probabilities", score, "Salem et al., arXiv 1806.01246; Song & Mittal, arXiv 2003.10595")
