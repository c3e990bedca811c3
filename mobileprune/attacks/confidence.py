"""The logit-scaled confidence of LiRA, without reference models."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, Floats, Ints, checked, log_probabilities


def score(logits: Floats, labels: Ints) -> Floats:
    """phi = log p_y - log sum_{j != y} p_j; (N, K), (N,) -> (N,).

    From rounded probabilities phi saturates (p_y = 1), hence the access "logits".
    """
    logits, labels = checked(logits, labels)
    log_p, log_not_p = log_probabilities(logits)
    rows = np.arange(len(labels))
    phi: Floats = log_p[rows, labels] - log_not_p[rows, labels]
    return phi


CONFIDENCE = Attack("confidence", "logits", score, "Carlini et al., arXiv 2112.03570, section V")
