"""A lower bound on epsilon from one trained model (Steinke, Nasr & Jagielski, arXiv 2305.08846).

The game. A fair coin decided for each of m pairs which of its two examples is trained on. The attacker sees
the model and both examples of every pair, not the coins, and names the member of some pairs, abstaining on
the others. If training is epsilon-DP for *replacing one example by another*, turning one coin over
changes the model's distribution by at most a factor e^epsilon, so, whatever the other coins are, a guess is right with
probability at most q = e^epsilon / (1 + e^epsilon), and (Proposition 5.1), given which pairs are guessed,

    P[at least v of r guesses are right] <= P[Binomial(r, q) >= v].

For (epsilon, delta)-DP and at most r guesses among m pairs (Theorem 5.2), the right-hand side grows by
2 m delta max_i P[v > Binomial(r, q) >= v - i] / i. The largest epsilon that the guesses refute is the bound.

Replacing is one removal and one addition: (epsilon, delta) for adding or removing one example implies
(2 epsilon, (1 + e^epsilon) delta) for replacing one, and is refuted where that is: with delta = 0 at half the bound.
The guess is the example with the higher score, and the pairs guessed are those with the largest
|difference of scores|: this looks at the model and at both examples, never at the coin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileprune.attacks import Scores
from mobileprune.audit.intervals import Estimate, checked_scores, clopper_pearson, not_resolvable
from mobileprune.errors import DataError, UsageError

FRACTIONS = (1.0, 0.25, 0.05)
"""The shares of the pairs that are guessed, fixed before any model is seen; Bonferroni over them."""

Neighbours = Literal["replace", "add_remove"]
NEIGHBOURS: tuple[Neighbours, Neighbours] = ("replace", "add_remove")
"""Data sets that differ by one example: it is another one, or there is one more."""

METHOD = "one-run audit of pairs, epsilon for replacing one example"


@dataclass(frozen=True)
class EpsilonBound:
    """The best bound over attacks and fractions. ``estimate.low`` bounds epsilon for replacing one example at the
    stated confidence, all attacks and fractions together, ``add_remove`` that for adding or removing one (None as well
    where there is none); there is no upper bound."""

    estimate: Estimate
    attack: str | None
    pairs: int
    guesses: int
    correct: int
    delta: float
    add_remove: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**vars(self), "estimate": self.estimate.to_dict()}


def epsilon_lower_bound(
    correct: int,
    guesses: int,
    *,
    delta: float = 0.0,
    pairs: int | None = None,
    confidence: float = 0.95,
    neighbours: Neighbours = "replace",
) -> float:
    """The largest epsilon that ``correct`` of ``guesses`` refute at 1 - confidence; 0 where they refute none.

    delta = 0: logit of the lower Clopper-Pearson bound of the success rate. delta > 0: bisection; ``pairs`` is then
    m, all coins thrown, and ``guesses`` the number fixed in advance. delta < 1 / (2 pairs), as
    only then each term is a mixture of binomial tails and so grows with epsilon.

    >>> round(epsilon_lower_bound(90, 100), 3)
    1.631
    """
    pairs = guesses if pairs is None else pairs
    if not 0 <= correct <= guesses <= pairs:
        raise DataError(f"needs 0 <= correct <= guesses <= pairs, got {correct}, {guesses} and {pairs}")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, got {confidence}")
    if not 0 <= delta * 2 * max(pairs, 1) < 1:
        raise UsageError(f"delta must lie in 0..1/(2 pairs) = {0.5 / max(pairs, 1):g}, got {delta:g}")
    low, _ = clopper_pearson(correct, guesses, confidence=2 * confidence - 1)
    if low <= 0.5:
        return 0.0
    steps, weight = (1 if neighbours == "replace" else 2), 2 * pairs * delta
    bound = (math.log(low) - math.log1p(-low)) / steps
    if delta == 0:
        return bound

    def excess(epsilon: float) -> float:
        grown = weight if neighbours == "replace" else weight * (1 + math.exp(epsilon))
        return _chance(correct, guesses, steps * epsilon, grown) - (1 - confidence)

    if neighbours == "add_remove":  # so that the delta for replacing stays in its range too
        bound = min(bound, math.log(1 / weight - 1))
    if bound <= 0 or excess(0.0) > 0:
        return 0.0
    if excess(bound) <= 0:
        return bound
    from scipy.optimize import brentq

    return max(0.0, float(brentq(excess, 0.0, bound, xtol=1e-9)) - 1e-9)


def _chance(correct: int, guesses: int, epsilon: float, weight: float) -> float:
    """beta + weight max_{i = 1..v} P[v > W >= v - i] / i for W ~ Binomial(r, q), beta = P[W >= v]."""
    from scipy.special import expit
    from scipy.stats import binom

    i = np.arange(1, correct + 1)
    beta = float(binom.sf(correct - 1, guesses, expit(epsilon)))
    below = binom.sf(correct - i - 1, guesses, expit(epsilon)) - beta
    return beta + weight * float((below / i).max(initial=0.0))


def pair_guesses(
    members: NDArray[np.float64], nonmembers: NDArray[np.float64], fraction: float = 1.0
) -> tuple[int, int]:
    """(correct, guesses) on the round(fraction m) pairs, at least 1, with the largest |member - non-member|.

    Equal differences at the edge: the lower position. A pair of equal scores is never guessed.
    """
    members, nonmembers = checked_scores(members, nonmembers)
    if members.shape != nonmembers.shape:
        raise DataError(f"pairs need as many members as non-members, got {len(members)} and {len(nonmembers)}")
    difference = members - nonmembers
    guessed = np.argsort(-np.abs(difference), kind="stable")[: planned(len(members), fraction)]
    return int((difference[guessed] > 0).sum()), int((difference[guessed] != 0).sum())


def planned(pairs: int, fraction: float) -> int:
    """How many pairs a fraction stands for: at least 1 where there is one."""
    if not 0 < fraction <= 1:
        raise UsageError(f"a fraction of the pairs must lie in 0..1, above 0, got {fraction}")
    return min(pairs, max(1, round(fraction * pairs)))


def one_run(scores: Scores, *, drawn: bool, delta: float = 0.0, confidence: float = 0.95) -> EpsilonBound:
    """The best bound of all attacks, each at 1 - (1 - confidence) / (attacks x fractions).

    ``drawn``: whether coins decided who is a member; position i among the members and i among the non-members
    are then one pair. Not resolvable without coins, pairs or attacks. Valid for attacks that
    did not see the target's coins; reference models must have coins of their own. ``delta``: that of the guarantee that
    training claims; 0 refutes pure differential privacy.
    """
    m, _ = scores.counts()
    if reason := _why_not(scores, drawn, delta):
        return EpsilonBound(not_resolvable(reason, confidence=confidence, method=METHOD), None, 0, 0, 0, delta)
    each = 1 - (1 - confidence) / (len(scores.by_attack) * len(FRACTIONS))
    bounds = []
    for name in scores.by_attack:
        for fraction in FRACTIONS:
            correct, guesses = pair_guesses(*scores.sides(name), fraction)
            if delta:  # the theorem is then about a number of guesses that does not depend on the model
                guesses = planned(m, fraction)
            replaced, removed = (
                epsilon_lower_bound(correct, guesses, delta=delta, pairs=m, confidence=each, neighbours=neighbours)
                for neighbours in NEIGHBOURS
            )
            estimate = Estimate(replaced, replaced, None, confidence, METHOD)
            bounds.append(EpsilonBound(estimate, name, m, guesses, correct, delta, removed))
    return max(bounds, key=lambda bound: bound.estimate.low or 0.0)


def _why_not(scores: Scores, drawn: bool, delta: float) -> str | None:
    if not drawn:
        return "who is a member was stated by the data, not drawn by coins"
    if not scores.by_attack:
        return "no attack could be run"
    inside, outside = scores.where(scores.member), scores.where(~scores.member)
    if scores.counts()[0] == 0 or not np.array_equal(inside.canary, outside.canary):
        return "members and non-members do not come in pairs"
    if 2 * (pairs := scores.counts()[0]) * delta >= 1:
        return f"{pairs:,} pairs refute nothing at delta {delta:g}, only at one below 1 / (2 x pairs)"
    return None
