"""The modified entropy attack: entropy that knows the label."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, log_probabilities
from mobileprune.attacks.evidence import Evidence, Floats


def score(evidence: Evidence) -> Floats:
    """-Mentr = (1 - p_y) log p_y + sum_{j != y} p_j log(1 - p_j).

    Per-class thresholds belong to the audit: ``balanced_accuracy(..., class_thresholds=True)``.
    """
    log_p, log_not_p = log_probabilities(evidence.logits)
    rows, labels = np.arange(len(evidence)), evidence.labels
    terms = np.exp(log_p) * log_not_p
    terms[rows, labels] = np.exp(log_not_p[rows, labels]) * log_p[rows, labels]
    total: Floats = np.sort(terms, axis=1).sum(axis=1)
    return total


MODIFIED_ENTROPY = Attack("modified_entropy", "probabilities", score, "Song & Mittal, arXiv 2003.10595, section 3.2")
