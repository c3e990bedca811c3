"""The gap attack: a correctly classified example is called a member."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Evidence, Floats


def score(evidence: Evidence) -> Floats:
    """1 if argmax z = y, else 0. Balanced accuracy (acc_train + 1 - acc_test) / 2."""
    correct: Floats = np.equal(evidence.logits.argmax(axis=1), evidence.labels).astype(np.float64)
    return correct


GAP = Attack("gap", "labels", score, "Yeom et al., arXiv 1709.01604")
