"""Attacks on a model that answers with a label only: how often it still gives the right one on changed copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Evidence, Floats, checked
from mobileprune.attacks.queries import noise_level

SOURCE = "Choquette-Choo et al., arXiv 2007.14321"


def augmentations(evidence: Evidence) -> Floats:
    """Share of the augmented copies, the image itself among them, that are classified as y.

    The paper fits a classifier to a shadow model's pattern of right and wrong copies; the share needs no shadow model.
    """
    return _share_right(evidence, "augmented", [1.0] * len(evidence.variants["augmented"]))


def noise_robustness(evidence: Evidence) -> Floats:
    """sum_v sigma_v [copy v is classified as y] / sum_v sigma_v: who is right under more noise is further from the
    decision boundary. sigma_v: :func:`mobileprune.attacks.queries.noise_level`.
    """
    return _share_right(evidence, "noisy", [noise_level(v) for v in range(len(evidence.variants["noisy"]))])


def _share_right(evidence: Evidence, variant: str, weights: Sequence[float]) -> Floats:
    total = np.zeros(len(evidence))
    for weight, answers in zip(weights, evidence.variants[variant], strict=True):
        logits, labels = checked(answers, evidence.labels)
        total += weight * (logits.argmax(axis=1) == labels)
    return total / sum(weights)


def _no_augmented(evidence: Evidence) -> str | None:
    return None if len(evidence.variants["augmented"]) else "needs at least 1 augmented copy of each image, got 0"


def _no_noisy(evidence: Evidence) -> str | None:
    return None if len(evidence.variants["noisy"]) else "needs at least 1 noisy copy of each image, got 0"


AUGMENTATIONS = Attack("augmentations", "labels", augmentations, SOURCE, ("augmented",), _no_augmented)
NOISE_ROBUSTNESS = Attack("noise_robustness", "labels", noise_robustness, SOURCE, ("noisy",), _no_noisy)
