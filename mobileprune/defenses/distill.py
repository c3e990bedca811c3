r"""Distillation for membership privacy (Shejwalkar & Houmansadr, arXiv 1906.06589), as a way to retrain.

Pruning makes a network forget; retraining on the members brings both accuracy and memories back. Here the pruned
network never sees a member again: it imitates the dense model on the reference set,

    L = CE(softmax(f_dense(x) / T), f(x))      x in D'

so that only what the dense model says about other images passes over. Reference labels are not used.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mobileprune.errors import UsageError
from mobileprune.training import Examples, predict


def distilled(dense: nn.Module | None, reference: Examples, temperature: float) -> Examples:
    """The reference images with the dense model's probabilities (N, K) as labels."""
    if dense is None:
        raise UsageError("distill needs a dense model to imitate: it works while pruning and retraining")
    logits = predict(dense, reference)
    return replace(reference, y=(logits / temperature).softmax(1))
