"""What an attack is, and the softmax that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobileprune.attacks.evidence import Evidence, Floats, Ints
from mobileprune.config import ACCESS, Access


def seen(wanted: str, shown: Access) -> Access:
    """The lesser rung of what an attacker wants to see (one of ``ACCESS``) and of what a model shows."""
    return min((rung for rung in ACCESS if rung in (wanted, shown)), key=ACCESS.index)


@dataclass(frozen=True)
class Attack:
    """A membership score: ``score(evidence of N examples) -> (N,)`` float64, higher = member.

    ``access``: the least access to the model with which the attack can be run. ``needs``: fields (or variants) of
    :class:`Evidence` beside the answers. ``refuses``: why it cannot be run on evidence that has all it needs, or None.
    """

    name: str
    access: Access
    score: Callable[[Evidence], Floats]
    source: str
    needs: tuple[str, ...] = ()
    refuses: Callable[[Evidence], str | None] | None = None


def log_probabilities(logits: Floats) -> tuple[Floats, Floats]:
    """log p and log(1 - p) of the softmax, both (N, K), accurate where p is next to 0 or to 1.

    With m the largest logit and s = sum of exp(z_j - m) over the others, log p_m = -log1p(s) and
    log(1 - p_m) = log s - log1p(s), where log s is a log-sum-exp of its own and so never underflows.
    Sums run over sorted terms: rows that are permutations of each other get equal values.
    """
    rows = np.arange(len(logits))
    top = logits.argmax(axis=1)
    ordered = np.sort(logits, axis=1)
    others, second = ordered[:, :-1], ordered[:, -2]
    log_s = second - ordered[:, -1] + np.log(np.exp(others - second[:, None]).sum(axis=1))
    log_norm = np.log1p(np.exp(log_s))
    log_p: Floats = logits - ordered[:, -1:] - log_norm[:, None]
    p = np.exp(log_p)
    p[rows, top] = 0.0  # replaced below; log1p(-p) is inaccurate next to p = 1
    log_not_p: Floats = np.log1p(-p)
    log_not_p[rows, top] = log_s - log_norm
    return log_p, log_not_p


def log_confidence(logits: Floats, labels: Ints) -> Floats:
    """log p_y, the negative cross-entropy, by log-softmax in float64; (N, K), (N,) -> (N,)."""
    return log_probabilities(logits)[0][np.arange(len(labels)), labels]


def logit_confidence(logits: Floats, labels: Ints) -> Floats:
    """phi = log p_y - log sum_{j != y} p_j (arXiv 2112.03570, section V); (N, K), (N,) -> (N,)."""
    log_p, log_not_p = log_probabilities(logits)
    rows = np.arange(len(labels))
    phi: Floats = log_p[rows, labels] - log_not_p[rows, labels]
    return phi
