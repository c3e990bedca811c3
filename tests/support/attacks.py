"""Evidence for attacks with references whose logit confidences are what a test says."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks import Evidence, References


def two_class(phi: np.ndarray) -> np.ndarray:
    """Logits (..., 2) whose logit confidence in class 0 is phi."""
    return np.stack([phi, np.zeros_like(phi)], axis=-1)


def evidence(phi: np.ndarray, of_references: np.ndarray, inside: np.ndarray) -> Evidence:
    references = References(list(two_class(of_references)), inside, [np.zeros((0, 2))] * len(inside))
    return Evidence(two_class(phi), np.zeros(len(phi), np.int64), references)
