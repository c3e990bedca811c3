"""The BASE attack: the loss attack with a threshold of its own for each example."""

from __future__ import annotations

from mobileprune.attacks.base import Attack, log_confidence
from mobileprune.attacks.evidence import Evidence, Floats
from mobileprune.attacks.reference_statistics import moments, references_of, too_few

S = 1 / 3
"""How much of the references' confidence is taken off; public code has 0.33. Below 1, as none of them was trained on
the example: what it gains by being trained on is larger the harder it is."""


def score(evidence: Evidence) -> Floats:
    """log p_y - s * mean of the references' log p_y, over those not trained on the example; (N,).

    A reconstruction. The threshold of Lassila et al. is the log of the mean p_y, the same for one reference and above
    the mean of the logs otherwise; with s = 1 where half of the references were trained on the example.
    """
    references = references_of(evidence)
    log_p = references.statistic(log_confidence, evidence.labels)
    return log_confidence(evidence.logits, evidence.labels) - S * moments(log_p, ~references.inside).mean


BASE = Attack("base", "top-k", score, "Lassila et al., arXiv 2505.24089", ("references",), too_few(inside=0, outside=1))
