"""SAMIA, made for pruned networks: a classifier that also sees how evenly a model answers around an image."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks import sensitivity, shadow_classifier
from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Evidence, Floats
from mobileprune.attacks.shadow_classifier import learned

SMALLEST_SENSITIVITY = 1e-9
"""So that 0, where a quantised or hardened model answers all copies alike, has a logarithm and does not set the scale
of the others. Where it lies matters little: other values are larger, except where the model is all but certain."""


def score(evidence: Evidence) -> Floats:
    """P(member | log p of the 10 likeliest classes in order, log p_y, log(1 - p_y), log sensitivity, one-hot y); (N,).

    Fitted on at most 20,000 answers of references, which came about as the target did, pruning included. Sensitivity is
    mean_v ||p(x + eps * u_v) - p(x)||_2 / eps, of references on the same copies as of the target.

    What differs from the paper: its network is self-attention over (p, sensitivity, one-hot y); here it is that of
    ``shadow_classifier``, one hidden layer of 64 ReLU units, so that of the two attacks only the sensitivity differs.
    p and sensitivity enter as logarithms, because both span many orders of magnitude in a trained model.
    """
    return learned(evidence, features, (64,), most=20_000, epochs=10, variants=("nearby",))


def features(answers: Evidence) -> Floats:
    """(N, min(K, 10) + 2 + K + 1): those of ``shadow_classifier``, then log sensitivity."""
    log_sensitivity = np.log(np.maximum(-sensitivity.score(answers), SMALLEST_SENSITIVITY))
    return np.hstack([shadow_classifier.features(answers), log_sensitivity[:, None]])


def refuses(evidence: Evidence) -> str | None:
    """Why it is not run: too little to learn from, or references and target asked about different copies."""
    if reason := shadow_classifier.refuses(evidence) or sensitivity.refuses(evidence):
        return reason
    own, of_references = len(evidence.variants["nearby"]), {0}
    if evidence.references is not None and "nearby" in evidence.references.variants:
        of_references = {len(answers) for answers in evidence.references.variants["nearby"]}
    if of_references != {own}:
        found = " or ".join(map(str, sorted(of_references)))
        return f"needs the references' answers on the same {own} nearby copies as the target's, got them on {found}"
    return None


SAMIA = Attack(
    "samia",
    "probabilities",
    score,
    "after Yuan & Zhang, arXiv 2202.03335, with a ReLU network in place of self-attention",
    ("references", "nearby"),
    refuses,
)
