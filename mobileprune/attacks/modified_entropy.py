"""The modified entropy attack: entropy that knows the label."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, Floats, Ints, checked, log_probabilities


def score(logits: Floats, labels: Ints) -> Floats:
    """-Mentr = (1 - p_y) log p_y + sum_{j != y} p_j log(1 - p_j); (N, K), (N,) -> (N,).

    Per-class thresholds belong to the audit: ``balanced_accuracy(..., class_thresholds=True)``.
    """
    logits, labels = checked(logits, labels)
    log_p, log_not_p = log_probabilities(logits)
    rows = np.arange(len(labels))
    terms = np.exp(log_p) * log_not_p
    terms[rows, labels] = np.exp(log_not_p[rows, labels]) * log_p[rows, labels]
    total: Floats = np.sort(terms, axis=1).sum(axis=1)
    return total


MODIFIED_ENTROPY = Attack("modified_entropy", "probabilities", score, "Song & Mittal, arXiv 2003.10595, section 3.2")
