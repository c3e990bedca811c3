"""RMIA: does the example gain more over other models than examples that nobody was trained on? (arXiv 2312.03262)"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mobileprune.attacks.base import Attack, log_confidence, log_probabilities
from mobileprune.attacks.evidence import Bools, Evidence, Floats, Ints, Population
from mobileprune.attacks.reference_statistics import moments, references_of, too_few
from mobileprune.errors import DataError

SOURCE = "Zarifzadeh et al., arXiv 2312.03262"

GAMMA = 1.0
"""The paper has 2, public code 1 or 2; the smaller ties fewer examples at a share of 0."""

A = 0.3
"""The default of public code. Assumes p_in = a p_out + 1 - a: what an example gains by being trained on."""


def offline(evidence: Evidence) -> Floats:
    """Share of the population z with ratio(x) / ratio(z) > gamma, ratio = p(y | .) / p_ref(y | .); (N,), see `_share`.

    p_ref = ((1 + a) mean_out + (1 - a)) / 2, mean_out the mean p_y of the references that were not trained on the
    example: of the population, of all. Computed as log(1 - q), q = (1 + a) / 2 mean_out(1 - p_y) <= (1 + a) / 2, which
    keeps differences next to p_y = 1.
    """
    references, population = references_of(evidence), _population(evidence)
    x = references.statistic(_complement, evidence.labels)
    z = references.population_statistic(_complement, population.labels)
    reference_x, reference_z = (
        np.log1p(-(1 + A) / 2 * moments(q, mask).mean)
        for q, mask in ((x, ~references.inside), (z, np.ones(z.shape, np.bool_)))
    )
    return _share(
        log_confidence(evidence.logits, evidence.labels) - reference_x,
        log_confidence(population.logits, population.labels) - reference_z,
    )


def online(evidence: Evidence) -> Floats:
    """Likewise with p_ref(x) = (mean_in + mean_out) / 2, the references trained on x and the others; (N,).

    Of the population, which no reference was trained on, p_ref is the mean over all.
    """
    references, population = references_of(evidence), _population(evidence)
    log_p, q = (references.statistic(compute, evidence.labels) for compute in (log_confidence, _complement))
    reference_x = log_mean(log_p, q, [references.inside, ~references.inside])
    log_p, q = (
        references.population_statistic(compute, population.labels) for compute in (log_confidence, _complement)
    )
    reference_z = log_mean(log_p, q, [np.ones(q.shape, np.bool_)])
    return _share(
        log_confidence(evidence.logits, evidence.labels) - reference_x,
        log_confidence(population.logits, population.labels) - reference_z,
    )


def log_mean(log_p: Floats, complement: Floats, sides: Sequence[Bools]) -> Floats:
    """log of the mean over sides (R, N) of the mean p within each, from log p and 1 - p (R, N); (N,).

    By 1 - p where the mean is above a half, so that it does not cancel next to 1; else relative to the largest p, so
    that it does not underflow.
    """
    not_p = sum(moments(complement, side).mean for side in sides) / len(sides)
    largest = np.max(log_p, axis=0)
    scaled = sum(moments(np.exp(log_p - largest), side).mean for side in sides) / len(sides)
    near_one = not_p < 0.5
    found: Floats = np.where(
        near_one,
        np.log1p(-np.where(near_one, not_p, 0.0)),
        largest + np.log(np.where(near_one, 1.0, scaled)),
    )
    return found


def _share(x: Floats, z: Floats) -> Floats:
    """Share of ``z`` (P,) with x - z > log gamma, for each of ``x`` (N,), and less than 1 / P more: O((N + P) log P).

    Shares are multiples of 1 / P, so that examples above all of the population would tie, just where the FPR is low.
    The larger ratio goes first: the share does not fall with it, so this changes the order of ties alone. 1 / (1 + 1 /
    ratio) / P is added.
    """
    from scipy.special import expit

    below = np.searchsorted(np.sort(z), x - math.log(GAMMA), side="left")
    found: Floats = (below + expit(x)) / len(z)
    return found


def _complement(logits: Floats, labels: Ints) -> Floats:
    """1 - p_y, accurate next to p_y = 1; (N, K), (N,) -> (N,)."""
    found: Floats = np.exp(log_probabilities(logits)[1][np.arange(len(labels)), labels])
    return found


def _population(evidence: Evidence) -> Population:
    if evidence.population is None or not len(evidence.population.labels):
        raise DataError("RMIA needs a population of at least 1 example, and the evidence has none")
    return evidence.population


def _refuses(*, inside: int) -> Callable[[Evidence], str | None]:
    few = too_few(inside=inside, outside=1)

    def reason(evidence: Evidence) -> str | None:
        if evidence.population is None or not len(evidence.population.labels):
            return "the population is empty"
        return few(evidence)

    return reason


NEEDS = ("references", "population")
RMIA = Attack("rmia", "top-k", offline, SOURCE, NEEDS, _refuses(inside=0))
RMIA_ONLINE = Attack("rmia_online", "top-k", online, SOURCE, NEEDS, _refuses(inside=1))
