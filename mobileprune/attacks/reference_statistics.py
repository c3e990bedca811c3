"""What the attacks with reference models share: moments over the models that saw an example, or those that did not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobileprune.attacks.base import logit_confidence
from mobileprune.attacks.evidence import Bools, Evidence, Floats, Ints, References
from mobileprune.errors import DataError

LARGEST_CONFIDENCE = 1e9
"""Confidences are clipped here: squares stay far from overflow, and softmax is saturated from about 40."""

SMALLEST_SPREAD = 1e-3
"""An example's standard deviation is at least this share of the pooled one. Answers of quantised models can tie,
and a variance of 0 would make certainty of a coincidence."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Of N examples each: ``count`` of values, their ``mean`` (0 of none), ``squares`` = sum (v - mean)^2; all (N,)."""

    count: Ints
    mean: Floats
    squares: Floats

    def pooled_variance(self) -> float:
        """sum_i squares_i / sum_i (count_i - 1), the variance *within* examples.

        Where no example has two values, the variance of all values about their common mean; 1 where that is 0 too.
        """
        within = int(np.maximum(self.count - 1, 0).sum())
        if within:
            return float(self.squares.sum() / within) or 1.0
        values = self.mean[self.count > 0]
        return (float(values.var(ddof=1)) if len(values) > 1 else 0.0) or 1.0

    def variance(self) -> Floats:
        """squares / (count - 1) of each example, count >= 2; at least a millionth of the pooled variance; (N,)."""
        floor = SMALLEST_SPREAD**2 * self.pooled_variance()
        found: Floats = np.maximum(self.squares / (self.count - 1), floor)
        return found


def moments(values: Floats, mask: Bools) -> Moments:
    """Moments over axis 0 of ``values`` (R, N) where ``mask`` (R, N) holds.

    Bit for bit the same for every order of the R models: sums run over sorted values. They are taken relative to the
    smallest, so that equal values have exactly their own mean and no squares.
    """
    count = mask.sum(axis=0, dtype=np.int64)
    ordered = np.sort(np.where(mask, values, np.inf), axis=0)
    present = np.arange(len(values))[:, None] < count
    smallest = np.where(count > 0, ordered[0], 0.0)
    mean = smallest + (np.where(present, ordered, smallest) - smallest).sum(axis=0) / np.maximum(count, 1)
    squares = ((np.where(present, ordered, mean) - mean) ** 2).sum(axis=0)
    return Moments(count, mean, squares)


def references_of(evidence: Evidence) -> References:
    """The references, or DataError where there is none."""
    if evidence.references is None or not len(evidence.references):
        raise DataError("this attack needs reference models, and the evidence has none")
    return evidence.references


def confidences(evidence: Evidence) -> tuple[Floats, Moments, Moments]:
    """phi of the target (N,), and its moments over the references trained on each example, and over the others."""
    references = references_of(evidence)
    phi = _clipped(evidence.logits, evidence.labels)
    of_references = references.statistic(_clipped, evidence.labels)
    return phi, moments(of_references, references.inside), moments(of_references, ~references.inside)


def _clipped(logits: Floats, labels: Ints) -> Floats:
    clipped: Floats = np.clip(logit_confidence(logits, labels), -LARGEST_CONFIDENCE, LARGEST_CONFIDENCE)
    return clipped


def too_few(*, inside: int, outside: int) -> Callable[[Evidence], str | None]:
    """Says why an attack is refused that needs so many references trained, and not trained, on *every* example."""

    def reason(evidence: Evidence) -> str | None:
        references = evidence.references
        if references is None or not len(references):
            return "there are no reference models"
        total, trained = len(references), references.inside.sum(axis=0)
        for least, found, how in ((inside, trained, "trained"), (outside, total - trained, "not trained")):
            if short := int((found < least).sum()):
                return (
                    f"needs at least {least} reference{'s' * (least > 1)} {how} on each example, and {short} of "
                    f"{len(found)} examples have fewer (there are {total} references)"
                )
        return None

    return reason


def cdf_log_odds(z: Floats) -> Floats:
    """log Phi(z) - log(1 - Phi(z)): orders as the one-sided log CDF does, and distinguishes values in both tails.

    log Phi(z) by itself is 0 in float64 from z = 38 on, so that the clearest members would tie.
    """
    from scipy.special import log_ndtr

    odds: Floats = log_ndtr(z) - log_ndtr(-z)
    return odds
