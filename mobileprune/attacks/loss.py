"""The loss attack: members have a smaller cross-entropy."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, Floats, Ints, checked, log_probabilities


def score(logits: Floats, labels: Ints) -> Floats:
    """log p_y, the negative cross-entropy, by log-softmax in float64; (N, K), (N,) -> (N,)."""
    logits, labels = checked(logits, labels)
    log_p, _ = log_probabilities(logits)
    return log_p[np.arange(len(labels)), labels]


LOSS = Attack("loss", "probabilities", score, "Yeom et al., arXiv 1709.01604")
