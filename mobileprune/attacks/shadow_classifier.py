"""The shadow classifier: it learns on the references, whose members are known, what a member's answer looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mobileprune.attacks.base import Attack, log_probabilities
from mobileprune.attacks.evidence import Bools, Evidence, Floats, Ints, References
from mobileprune.attacks.reference_statistics import references_of
from mobileprune.seeding import numpy_rng

LEAST = 50
"""Answers needed on members, and as many on non-members."""
SORTED = 10
SMALLEST_LOG_P = -50.0
"""So that a few saturated answers do not set the scale of a feature."""

Features = Callable[[Evidence], Floats]
"""Of one model's answers on M examples: (M, F)."""


def score(evidence: Evidence) -> Floats:
    """P(member | log p of the 10 likeliest classes in order, log p_y, log(1 - p_y), one-hot y), at most 20,000 answers.

    A network with one hidden layer of 64 ReLU units, as in the paper. The paper has one network for each class; here y
    is an input, so that rare classes borrow from the others, and p_y is one too, because sorting loses its place.
    """
    return learned(evidence, features, (64,), most=20_000, epochs=10)


def features(answers: Evidence) -> Floats:
    """(N, min(K, 10) + 2 + K)"""
    log_p, log_not_p = log_probabilities(answers.logits)
    labels, rows = answers.labels, np.arange(len(answers))
    ordered = -np.sort(-log_p, axis=1)[:, :SORTED]
    own = np.stack([log_p[rows, labels], log_not_p[rows, labels]], axis=1)
    return np.hstack([np.maximum(np.hstack([ordered, own]), SMALLEST_LOG_P), one_hot(labels, log_p.shape[1])])


def one_hot(labels: Ints, classes: int) -> Floats:
    """(N,) -> (N, K)"""
    return np.equal(labels[:, None], np.arange(classes)).astype(np.float64)


def learned(
    evidence: Evidence,
    features: Features,
    hidden: tuple[int, ...],
    *,
    most: int,
    epochs: int,
    variants: Sequence[str] = (),
) -> Floats:
    """P(member) of the target's answers (N,) by a network fitted on at most ``most`` of the references'.

    ``variants``: the kinds of changed copies that ``features`` looks at. Inputs are scaled to mean 0 and variance 1.
    Few epochs: where membership shows little, more only fit the noise.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not len(evidence):
        return np.zeros(0)
    rows, inside = _examples(references_of(evidence), evidence.labels, features, most, variants)
    scaler = StandardScaler().fit(rows)
    network = MLPClassifier(hidden, random_state=0)
    scaled = scaler.transform(rows).astype(np.float32)
    for _ in range(epochs):
        network.partial_fit(scaled, inside, classes=[False, True])
    probability: Floats = make_pipeline(scaler, network).predict_proba(features(evidence))[:, 1]
    return probability


def _examples(
    references: References, labels: Ints, features: Features, most: int, variants: Sequence[str]
) -> tuple[Floats, Bools]:
    """Features (M, F) of the references' answers and membership (M,): of each an equal number, at random."""
    share = max(1, most // (2 * len(references)))
    rows, inside = [], []
    for index, member in enumerate(references.inside):
        rng = numpy_rng(0, "shadow_classifier", index)
        sides = (np.flatnonzero(member), np.flatnonzero(~member))
        chosen = np.concatenate([rng.permutation(side)[:share] for side in sides])
        rows.append(features(references.seen(index, labels, chosen, variants)))
        inside.append(member[chosen])
    return np.concatenate(rows), np.concatenate(inside)


def refuses(evidence: Evidence) -> str | None:
    """Why the references cannot be learned from: too few of their answers are on members, or on non-members."""
    if evidence.references is None:
        return "needs references"
    inside = evidence.references.inside
    counts = {"members": int(inside.sum()), "non-members": int((~inside).sum())}
    few = [f"{count} on {name}" for name, count in counts.items() if count < LEAST]
    return (
        f"needs {LEAST} answers of the references on each side to learn from, got {' and '.join(few)}" if few else None
    )


SHADOW_CLASSIFIER = Attack(
    "shadow_classifier",
    "probabilities",
    score,
    "after Shokri et al., arXiv 1610.05820, section V",
    ("references",),
    refuses,
)
