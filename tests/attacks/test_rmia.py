"""RMIA against its definition over all pairs, ties included."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import rankdata

from mobileprune.attacks import Attack, Evidence, Population, References, rmia
from mobileprune.attacks.rmia import RMIA, RMIA_ONLINE
from mobileprune.errors import DataError

BOTH = (RMIA, RMIA_ONLINE)


def case(seed: int, *, models: int, examples: int, population: int, classes: int = 3) -> Evidence:
    """Integer logits, so that ratios tie often; about half of the references inside."""
    rng = np.random.default_rng(seed)

    def logits(n: int) -> np.ndarray:
        return rng.integers(-2, 3, (n, classes)).astype(float)

    inside = rng.permuted(np.repeat(np.arange(models)[:, None] % 2 == 1, examples, axis=1), axis=0)
    references = References(
        [logits(examples) for _ in range(models)], inside, [logits(population) for _ in range(models)]
    )
    labels = rng.integers(0, classes, examples), rng.integers(0, classes, population)
    return Evidence(logits(examples), labels[0], references, Population(logits(population), labels[1]))


def probability(row: np.ndarray, label: int) -> float:
    return math.exp(row[label]) / math.fsum(math.exp(v) for v in row)


def slow_ratios(evidence: Evidence, online: bool) -> tuple[list[float], list[float]]:
    references, population = evidence.references, evidence.population
    assert references is not None
    assert population is not None
    x, z = [], []
    for i, label in enumerate(evidence.labels):
        p = [probability(logits[i], label) for logits in references.logits]
        ins, outs = (
            [v for v, m in zip(p, references.inside[:, i], strict=True) if m == side] for side in (True, False)
        )
        out = math.fsum(outs) / len(outs)
        reference = (out + math.fsum(ins) / len(ins)) / 2 if online else ((1 + rmia.A) * out + (1 - rmia.A)) / 2
        x.append(probability(evidence.logits[i], label) / reference)
    for j, label in enumerate(population.labels):
        mean = math.fsum(probability(logits[j], label) for logits in references.population) / len(references)
        reference = mean if online else ((1 + rmia.A) * mean + (1 - rmia.A)) / 2
        z.append(probability(population.logits[j], label) / reference)
    return x, z


def shares(value: float, ratio: float, population: int) -> float:
    """A score without what breaks ties, as a number of the population."""
    return value * population - 1 / (1 + 1 / ratio)


def apart(a: float, b: float) -> bool:
    return abs(a - b) > 1e-9 * max(a, b)


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    models=st.integers(1, 6),
    examples=st.sampled_from([0, 1, 2, 9]),
    population=st.sampled_from([1, 2, 15]),
    gamma=st.sampled_from([1.0, 2.0, 0.7]),
)
def test_matches_all_pairs(
    attack: Attack, seed: int, models: int, examples: int, population: int, gamma: float
) -> None:
    evidence = case(seed, models=models, examples=examples, population=population)
    assert attack.refuses is not None
    if attack.refuses(evidence) is not None:
        assert attack is RMIA_ONLINE
        assert models == 1
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rmia, "GAMMA", gamma)
        got = attack.score(evidence)
    assert got.shape == (examples,)
    assert got.dtype == np.float64
    x, z = slow_ratios(evidence, attack is RMIA_ONLINE)
    for value, ratio in zip(got, x, strict=True):
        # Pairs that tie but for the last bits of the slow arithmetic may fall on either side.
        surely = sum(ratio / other > gamma * (1 + 1e-12) for other in z)
        perhaps = sum(ratio / other > gamma * (1 - 1e-12) for other in z)
        assert surely <= round(shares(value, ratio, population)) <= perhaps
    assert all((a < b) == (x[i] < x[j]) for i, a in enumerate(got) for j, b in enumerate(got) if apart(x[i], x[j]))


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_ties_do_not_count_exactly(attack: Attack) -> None:
    """The population is the examples, each five times: x exceeds only what lies strictly below."""
    rng, copies = np.random.default_rng(1), np.random.default_rng(2).permutation(np.arange(40) % 8)
    target, first = rng.normal(0, 3, (2, 8, 4))[:, copies]
    labels = rng.integers(0, 4, 8)[copies]
    # References that answer alike in and out have the same p_ref for an example as for its copies in the population.
    references = References([first, first], np.array([[True] * 40, [False] * 40]), [first, first])
    evidence = Evidence(target, labels, references, Population(target, labels))
    x, _ = slow_ratios(evidence, attack is RMIA_ONLINE)
    ranks = rankdata(np.round(x, 12), "min")
    assert len(np.unique(ranks)) == 8
    assert (np.round(attack.score(evidence) * 40 - 1 / (1 + 1 / np.array(x))) == ranks - 1).all()


def test_keeps_apart_what_is_next_to_certain() -> None:
    """p_y = 1 - e^-30 and 1 - e^-33 against references that are as sure: the ratio's order is that of p."""
    logits = np.array([[30.0, 0.0], [33.0, 0.0], [36.0, 0.0]])
    zeros = np.zeros(3, np.int64)
    sure = np.array([[34.0, 0.0]] * 3)
    references = References([sure, sure], np.array([[True] * 3, [False] * 3]), [sure[:2], sure[:2]])
    evidence = Evidence(logits, zeros, references, Population(np.array([[31.0, 0.0], [35.0, 0.0]]), zeros[:2]))
    for attack in BOTH:
        assert attack.score(evidence) == pytest.approx([0.25, 0.75, 1.25])  # the ratios are 1 but for 1e-13


def test_what_training_on_an_example_is_taken_to_add() -> None:
    """p = 0.6 where a reference has 0.5: p_ref = (1.3 * 0.5 + 0.7) / 2, so the ratio is 8/9.

    Of the population the references are certain, and the ratios are the model's 0.885 and 0.892.
    """
    x, z = (np.log([[p, 1 - p] for p in side]) for side in ([0.6], [0.885, 0.892]))
    references = References([np.zeros((1, 2))], np.array([[False]]), [np.array([[50.0, 0.0]] * 2)])
    evidence = Evidence(x, np.array([0]), references, Population(z, np.array([0, 0])))
    assert RMIA.score(evidence) * 2 - 8 / 17 == pytest.approx([1])


def test_log_mean_is_exact_at_both_ends() -> None:
    """Rows: p next to 1, p far below the smallest double, and both among one example's references."""
    log_p = np.array([[-1e-20, -2000.0, -2000.0], [-3e-20, -2000.0 + math.log(3), -1e-20]])
    complement = np.array([[1e-20, 1.0, 1.0], [3e-20, 1.0, 1e-20]])
    got = rmia.log_mean(log_p, complement, [np.ones((2, 3), bool)])
    np.testing.assert_allclose(got, [-float(Fraction(2, 10**20)), -2000 + math.log(2), -math.log(2)], rtol=1e-13)


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_saturated_answers_stay_finite(attack: Attack) -> None:
    logits = np.array(
        [[1e3, -1e3, -1e3], [-1e3, 1e3, -1e3], [1e3, 1e3, -1e3], [1e300, -1e300, 0.0], [-1e300, 1.0, 0.0]]
    )
    zeros = np.zeros(5, np.int64)
    references = References(
        [logits, logits[::-1]], np.array([[True] * 5, [False] * 5]), [logits, np.roll(logits, 1, axis=0)]
    )
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = attack.score(Evidence(logits, zeros, references, Population(logits, zeros)))
    assert ((got >= 0) & (got <= 1 + 1 / 5)).all()


@pytest.mark.parametrize("attack", BOTH, ids=lambda attack: attack.name)
def test_the_order_of_references_and_population_changes_no_bit(attack: Attack) -> None:
    evidence = case(3, models=5, examples=33, population=21, classes=10)
    references, population = evidence.references, evidence.population
    assert references is not None
    assert population is not None
    order, of_population = np.random.default_rng(4).permutation(5), np.random.default_rng(5).permutation(21)
    shuffled = Evidence(
        evidence.logits,
        evidence.labels,
        References(
            [references.logits[r] for r in order],
            references.inside[order],
            [references.population[r][of_population] for r in order],
        ),
        Population(population.logits[of_population], population.labels[of_population]),
    )
    assert (attack.score(evidence) == attack.score(shuffled)).all()


def test_a_hundred_thousand_against_as_many() -> None:
    """All pairs would be ten thousand million."""
    x, z = np.random.default_rng(0).permutation(100_000), np.arange(100_000)
    assert (np.round(rmia._share(x + 0.5, z.astype(float)) * 100_000 - expit(x + 0.5)) == x + 1).all()


def test_too_few_references_and_no_population_are_refused() -> None:
    evidence = case(0, models=1, examples=3, population=2)
    assert RMIA.refuses is not None
    assert RMIA_ONLINE.refuses is not None
    assert RMIA.refuses(evidence) is None
    assert (RMIA_ONLINE.refuses(evidence) or "").startswith("needs at least 1 reference trained on each example")
    empty = case(0, models=2, examples=3, population=0)
    for attack in BOTH:
        assert attack.needs == ("references", "population")
        for missing in (empty, replace(empty, population=None)):
            assert attack.refuses is not None
            assert attack.refuses(missing) == "the population is empty"
            with pytest.raises(DataError, match="population of at least 1"):
                attack.score(missing)
    references = evidence.references
    assert references is not None
    seen = References(references.logits, np.ones((1, 3), bool), references.population)
    trained = Evidence(evidence.logits, evidence.labels, seen, evidence.population)
    assert (RMIA.refuses(trained) or "").startswith(
        "needs at least 1 reference not trained on each example, and 3 of 3"
    )
