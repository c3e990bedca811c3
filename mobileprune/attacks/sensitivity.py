"""The sensitivity attack: a model answers more evenly around the examples that it was trained on."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, log_probabilities
from mobileprune.attacks.evidence import Evidence, Floats, checked
from mobileprune.attacks.queries import INPUT_STEP


def score(evidence: Evidence) -> Floats:
    """-mean_v ||p(x + eps * u_v) - p(x)||_2 / eps over the copies of :func:`mobileprune.attacks.queries.nearby`.

    The feature that SAMIA adds to p and y, here as a score that needs no shadow model; :mod:`mobileprune.attacks.samia`
    learns from it. Another eps than the default only scales the score.
    """
    plain = np.exp(log_probabilities(evidence.logits)[0])
    copies = evidence.variants["nearby"]
    total = np.zeros(len(evidence))
    for answers in copies:
        changed = np.exp(log_probabilities(checked(answers, evidence.labels)[0])[0])
        total -= np.linalg.norm(changed - plain, axis=1)
    return total / (len(copies) * INPUT_STEP)


def refuses(evidence: Evidence) -> str | None:
    """There is no mean over no copies."""
    return None if len(evidence.variants["nearby"]) else "needs at least 1 nearby copy of each image, got 0"


SENSITIVITY = Attack(
    "sensitivity", "probabilities", score, "after Yuan & Zhang, arXiv 2202.03335", ("nearby",), refuses
)
