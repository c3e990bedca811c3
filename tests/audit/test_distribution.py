"""What reports draw: the ROC band against a bootstrap that draws every example, and histograms that lose no score."""

from __future__ import annotations

import numpy as np
import pytest

from mobileprune.attacks import Scores
from mobileprune.audit.distribution import BINS, distributions, histogram
from mobileprune.audit.statistics import roc_band

RNG = np.random.default_rng(0)


def slow_band(members: np.ndarray, nonmembers: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Both sides drawn anew, the thresholds found anew, ties by lot: (2, len(allowed))."""
    drawn, n = [], len(nonmembers)
    for _ in range(2000):
        inside, outside = RNG.choice(members, len(members)), RNG.choice(nonmembers, n)
        ordered = np.sort(outside)
        row = []
        for false in allowed:
            t = ordered[n - 1 - false]
            share = (false - (outside > t).sum()) / (outside == t).sum()
            row.append(((inside > t).sum() + share * (inside == t).sum()) / len(members))
        drawn.append(row)
    return np.quantile(drawn, [0.025, 0.975], axis=0)


@pytest.mark.parametrize(
    ("sides", "step", "within"),
    [((200, 200), None, 0.012), ((61, 97), None, 0.035), ((300, 250), 1.0, 0.035)],
    ids=["even", "small", "tied"],
)
def test_the_band_is_that_of_a_bootstrap(sides: tuple[int, int], step: float | None, within: float) -> None:
    """``within``: what 2,000 resamples leave open, one member in the small sample being 0.016."""
    members, nonmembers = RNG.normal(0.7, 1, sides[0]), RNG.normal(0, 1, sides[1])
    if step:
        members, nonmembers = (np.round(side / step) * step for side in (members, nonmembers))
    band = roc_band(members, nonmembers, points=12)
    allowed = np.rint(np.array(band["fpr"][:-1]) * sides[1]).astype(int)
    assert (allowed[0], band["fpr"][-1], band["low"][-1], band["high"][-1]) == (5, 1.0, 1.0, 1.0)
    low, high = slow_band(members, nonmembers, allowed)
    assert band["low"][:-1] == pytest.approx(low, abs=within)
    assert band["high"][:-1] == pytest.approx(high, abs=within)


def test_the_band_holds_the_truth_as_often_as_it_says() -> None:
    """Of 300 samples: the true TPR at an FPR of 10 % lies inside about 95 times in 100."""
    truth, inside = 0.389, 0  # P(N(1, 1) > 1.2816)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        band = roc_band(rng.normal(1, 1, 100), rng.normal(0, 1, 100), resamples=400, seed=seed)
        at = int(np.argmin(np.abs(np.array(band["fpr"]) - 0.1)))
        inside += band["low"][at] <= truth <= band["high"][at]
    assert 0.91 <= inside / 300 <= 0.99


def test_bands_of_few_and_of_none() -> None:
    assert roc_band(np.ones(0), np.ones(3))["fpr"] == []
    assert roc_band(np.ones(1), np.zeros(1))["fpr"] == [1.0]
    certain = roc_band(np.ones(50), np.zeros(50))
    assert set(certain["low"]) == set(certain["high"]) == {1.0}, "separated sides are so in every resample"
    same = roc_band(RNG.normal(size=40), RNG.normal(size=40), seed=3)
    assert all(low <= high for low, high in zip(same["low"], same["high"], strict=True))


def test_histograms_count_every_score_once() -> None:
    members, nonmembers = RNG.standard_cauchy(500), RNG.standard_cauchy(400)
    found = histogram(members, nonmembers)
    edges = np.array(found["edges"])
    assert len(edges) == BINS + 1
    assert (sum(found["members"]), sum(found["nonmembers"])) == (500, 400)
    for i in range(1, BINS - 1):  # the outermost bins take in the tails
        inside = (members >= edges[i]) & (members < edges[i + 1])
        assert found["members"][i] == inside.sum()


@pytest.mark.parametrize(
    ("members", "nonmembers"),
    [([1.0], [1.0]), ([0.0, 1.0], []), ([1.0], [1.0 + 2e-16]), ([5e-324], [0.0]), ([-1e308], [1e308])],
    ids=str,
)
def test_histograms_of_odd_scores(members: list[float], nonmembers: list[float]) -> None:
    found = histogram(np.array(members), np.array(nonmembers))
    assert (sum(found["members"]), sum(found["nonmembers"])) == (len(members), len(nonmembers))
    assert all(b > a for a, b in zip(found["edges"], found["edges"][1:], strict=False))
    assert np.isfinite(found["edges"]).all()


def test_an_attack_with_the_highest_auc_is_shown_in_each_group() -> None:
    assert histogram(np.ones(0), np.ones(0))["edges"] == []
    member = np.repeat([True, False], 40)
    scores = {"good": member + RNG.normal(0, 0.5, 80), "bad": RNG.normal(0, 1, 80)}
    canary = np.tile([True, False], 40)
    found = distributions(Scores(scores, dict.fromkeys(scores, "logits"), {}, np.zeros(80, np.int64), member, canary))
    assert {group: shown.attack for group, shown in found.items()} == {"all": "good", "canaries": "good"}
    assert sum(found["canaries"].histogram["members"]) == 20


def test_bins_are_equally_wide_and_span_all_but_the_outermost_scores() -> None:
    members, nonmembers = RNG.standard_cauchy(700) + 20, RNG.standard_cauchy(600) - 30
    found = histogram(members, nonmembers)
    ordered = np.sort(np.concatenate([members, nonmembers]))  # 1,299 steps: 6.495 of them are 0.5 %
    assert (found["edges"][0], found["edges"][-1]) == pytest.approx((ordered[6], ordered[-7]))
    widths = np.diff(found["edges"])
    assert widths == pytest.approx(np.full(30, (ordered[-7] - ordered[6]) / 30))
    inner = (members >= found["edges"][1]) & (members < found["edges"][-2])
    assert sum(found["members"][1:-1]) == inner.sum()


def test_a_single_value_has_a_bin_of_width_1() -> None:
    assert histogram(np.full(3, 2.0), np.full(2, 2.0)) == {"edges": [1.5, 2.5], "members": [3], "nonmembers": [2]}


def test_a_distribution_is_plain_and_has_the_band_of_its_attack() -> None:
    member = np.repeat([True, False], 50)
    values, none = RNG.normal(1.0 * member, 1), np.zeros(100, bool)
    scores = Scores({"a": values}, {"a": "logits"}, {}, np.zeros(100, np.int64), member, none)
    found = distributions(scores)["all"]
    sides = values[:50], values[50:]
    assert found.to_dict() == {"attack": "a", "band": roc_band(*sides), "histogram": histogram(*sides)}
    assert distributions(Scores({}, {}, {}, np.zeros(100, np.int64), member, none)) == {}


def test_a_band_has_the_level_and_the_rates_asked_for() -> None:
    members, nonmembers = RNG.normal(1, 1, 300), RNG.normal(0, 1, 250)
    narrow, wide = (roc_band(members, nonmembers, confidence=c, points=9) for c in (0.5, 0.99))
    assert (narrow["confidence"], narrow["resamples"]) == (0.5, 2000)
    assert narrow["fpr"] == wide["fpr"] == [k / 250 for k in (5, 8, 13, 22, 35, 58, 94, 153, 250)]
    for (a, b), (c, d) in zip(*(zip(band["low"], band["high"], strict=True) for band in (wide, narrow)), strict=True):
        assert a <= c <= d <= b
    assert wide["high"][3] - wide["low"][3] > 2 * (narrow["high"][3] - narrow["low"][3])
