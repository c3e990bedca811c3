"""The gap attack: a correctly classified example is called a member."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, Floats, Ints, checked


def score(logits: Floats, labels: Ints) -> Floats:
    """1 if argmax z = y, else 0; (N, K), (N,) -> (N,). Balanced accuracy (acc_train + 1 - acc_test) / 2."""
    logits, labels = checked(logits, labels)
    correct: Floats = np.equal(logits.argmax(axis=1), labels).astype(np.float64)
    return correct


GAP = Attack("gap", "labels", score, "Yeom et al., arXiv 1709.01604")
