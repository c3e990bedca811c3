"""Statistics against slow, obvious implementations, exact cases and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, ks_2samp, norm
from sklearn.metrics import roc_curve

from mobileprune.audit import bootstrap as bootstrap_module
from mobileprune.audit import rates
from mobileprune.audit import statistics as s
from mobileprune.audit.accuracy import best_threshold
from mobileprune.audit.rates import allowed_false_positives, threshold_at_fpr
from mobileprune.errors import DataError, UsageError

tied = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=17)
quick = settings(max_examples=60)


def slow_auc(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return float(np.mean([[1.0 if x > y else 0.5 if x == y else 0.0 for y in nonmembers] for x in members]))


def slow_components(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    win = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in nonmembers] for x in members])
    return win.mean(axis=1), win.mean(axis=0)


def slow_tpr(members: np.ndarray, nonmembers: np.ndarray, fpr: float) -> float:
    fits = [t for t in nonmembers if sum(y > t for y in nonmembers) / len(nonmembers) <= fpr]
    return sum(x > min(fits) for x in members) / len(members)


@quick
@given(members=tied, nonmembers=tied)
def test_auc_is_the_pairwise_probability(members: list[float], nonmembers: list[float]) -> None:
    got = s.auc(np.array(members), np.array(nonmembers))
    assert got.value == pytest.approx(slow_auc(np.array(members), np.array(nonmembers)), abs=1e-12)
    assert 0 <= got.low <= got.value <= got.high <= 1


@quick
@given(data=st.data(), m=st.integers(2, 9), n=st.integers(2, 9))
def test_delong_matches_structural_components(data: st.DataObject, m: int, n: int) -> None:
    values = st.integers(-3, 3).map(float)
    members = np.array(data.draw(st.lists(st.lists(values, min_size=m, max_size=m), min_size=2, max_size=2)))
    nonmembers = np.array(data.draw(st.lists(st.lists(values, min_size=n, max_size=n), min_size=2, max_size=2)))
    aucs, covariance = s.delong_covariance(members, nonmembers)
    parts = [slow_components(x, y) for x, y in zip(members, nonmembers, strict=True)]
    for a in range(2):
        assert aucs[a] == pytest.approx(parts[a][0].mean(), abs=1e-12)
        for b in range(2):
            (in_a, out_a), (in_b, out_b) = parts[a], parts[b]
            s10 = sum((in_a[i] - in_a.mean()) * (in_b[i] - in_b.mean()) for i in range(m)) / (m - 1)
            s01 = sum((out_a[j] - out_a.mean()) * (out_b[j] - out_b.mean()) for j in range(n)) / (n - 1)
            assert covariance[a, b] == pytest.approx(s10 / m + s01 / n, abs=1e-12)


def test_delong_interval_is_the_logit_interval() -> None:
    rng = np.random.default_rng(1)
    members, nonmembers = rng.normal(1, 1, 31), rng.normal(0, 1, 43)
    got = s.auc(members, nonmembers, confidence=0.9)
    spread = s.delong_covariance(members, nonmembers)[1][0, 0] ** 0.5 / (got.value * (1 - got.value))
    low = 1 / (1 + math.exp(-(math.log(got.value / (1 - got.value)) - norm.ppf(0.95) * spread)))
    assert got.low == pytest.approx(low, abs=1e-12)


def test_auc_of_shifted_gaussians_is_phi_and_is_covered() -> None:
    rng = np.random.default_rng(2)
    truth, covered = norm.cdf(0.5 / math.sqrt(2)), 0
    for _ in range(300):
        got = s.auc(rng.normal(0.5, 1, 60), rng.normal(0, 1, 80))
        covered += got.low <= truth <= got.high
    assert covered >= 275  # 285 expected at 95 %, standard deviation 3.8


@pytest.mark.parametrize(("sign", "value"), [(1, 1.0), (-1, 0.0)])
def test_perfect_separation_uses_disjoint_pairs(sign: int, value: float) -> None:
    got = s.auc(sign * np.arange(20, 40.0), sign * np.arange(15.0))
    exact = binomtest(15 if sign > 0 else 0, 15).proportion_ci(0.95, method="exact")
    assert (got.value, got.low, got.high) == pytest.approx((value, exact.low, exact.high))


def test_equal_scores_and_few_examples_do_not_look_certain() -> None:
    flat = s.auc(np.zeros(50), np.zeros(50))
    assert flat.value == 0.5
    assert flat.low < 0.4
    assert flat.high > 0.6
    few = s.auc(np.array([0.9, 0.95]), np.arange(1000) / 1000)
    assert few.high - few.low > 0.5


@quick
@given(trials=st.integers(1, 60), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_matches_scipy(trials: int, share: float, confidence: float) -> None:
    hits = round(share * trials)
    exact = binomtest(hits, trials).proportion_ci(confidence, method="exact")
    assert s.clopper_pearson(hits, trials, confidence=confidence) == pytest.approx((exact.low, exact.high), abs=1e-9)


@quick
@given(members=tied, nonmembers=st.lists(st.integers(-4, 4).map(float), min_size=5, max_size=30))
def test_tpr_threshold_keeps_the_fpr_and_is_the_smallest(members: list[float], nonmembers: list[float]) -> None:
    x, y = np.array(members), np.array(nonmembers)
    assert (y > threshold_at_fpr(y, 0.2)).mean() <= 0.2
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [len(x), len(y)]), np.concatenate([x, y]), drop_intermediate=False)
    affordable = np.floor(0.2 * len(y) + 1e-9) / len(y)
    below = np.flatnonzero(fpr <= affordable + 1e-12)[-1]
    share = 0.0
    if below + 1 < len(fpr):  # a coin among those that tie: a straight line to the curve's next point
        share = (affordable - fpr[below]) / (fpr[below + 1] - fpr[below])
    expected = tpr[below] + share * (tpr[min(below + 1, len(tpr) - 1)] - tpr[below])
    assert s.tpr_at_fpr(x, y, fpr=0.2).value == pytest.approx(expected)


def test_a_file_that_gives_labels_only_does_not_hide_from_the_tpr() -> None:
    members, nonmembers = np.repeat([1.0, 0.0], [180, 20]), np.repeat([1.0, 0.0], [100, 100])
    got = s.tpr_at_fpr(members, nonmembers, fpr=0.01)
    assert got.value == pytest.approx(0.9 * 0.01 / 0.5)  # "strictly above" would find no one
    assert got.low < got.value < got.high
    both = s.paired_tpr_difference(members, nonmembers, np.zeros(200), np.zeros(200))
    assert both.value == pytest.approx(0.018 - 0.01)


def test_rates_below_the_resolution_are_not_numbers() -> None:
    for got in (
        s.tpr_at_fpr(np.ones(50), np.zeros(99), fpr=0.01),
        s.ppv(np.ones(50), np.zeros(99), prior=0.1),
        s.paired_tpr_difference(np.ones(50), np.zeros(99), np.ones(50), np.zeros(99)),
        s.tpr_at_fpr(np.ones(0), np.zeros(100), fpr=0.01),
        s.auc(np.ones(0), np.zeros(5)),
        s.balanced_accuracy(np.ones(1), np.zeros(5)),
        s.ppv(np.zeros(5), np.zeros(100), prior=0.1),
    ):
        assert (got.value, got.low, got.high) == (None, None, None)
        assert got.note.startswith("not resolvable: ")
    assert s.tpr_at_fpr(np.ones(50), np.zeros(100), fpr=0.01).value == 1.0


def test_the_fpr_budget_survives_rounding() -> None:
    nonmembers = np.arange(100.0)
    for percent in range(1, 100):
        assert (nonmembers > threshold_at_fpr(nonmembers, percent / 100)).sum() == percent


def test_ppv_is_bayes_at_the_threshold() -> None:
    members, nonmembers = np.arange(0, 400, 2.0), np.arange(300.0)
    got = s.ppv(members, nonmembers, prior=0.1)
    tpr, fpr = slow_tpr(members, nonmembers, 0.01), 0.01
    assert got.value == pytest.approx(0.1 * tpr / (0.1 * tpr + 0.9 * fpr))
    assert 0 <= got.low < got.value < got.high <= 1
    assert s.ppv(np.ones(200), np.zeros(200), prior=0.01).value == 1.0


@quick
@given(members=tied, nonmembers=tied)
def test_best_threshold_beats_every_other(members: list[float], nonmembers: list[float]) -> None:
    x, y = np.array(members), np.array(nonmembers)
    accuracy = {t: (x > t).mean() + (y <= t).mean() for t in [-np.inf, *x, *y]}
    t = best_threshold(x, y)
    assert (x > t).mean() + (y <= t).mean() == pytest.approx(max(accuracy.values()))


def test_balanced_accuracy_is_cross_fitted() -> None:
    rng = np.random.default_rng(3)
    members, nonmembers = rng.normal(0.8, 1, 51), rng.normal(0, 1, 36)
    hits = sum((members[1 - f :: 2] > best_threshold(members[f::2], nonmembers[f::2])).sum() for f in (0, 1))
    kept = sum((nonmembers[1 - f :: 2] <= best_threshold(members[f::2], nonmembers[f::2])).sum() for f in (0, 1))
    got = s.balanced_accuracy(members, nonmembers)
    assert got.value == pytest.approx((hits / 51 + kept / 36) / 2)
    assert got.low < got.value < got.high
    assert s.balanced_accuracy(np.arange(10, 20.0), np.arange(9.0)).value == 1.0


def test_balanced_accuracy_does_not_reward_noise() -> None:
    rng = np.random.default_rng(4)
    values = [s.balanced_accuracy(rng.normal(size=30), rng.normal(size=30)).value for _ in range(200)]
    assert abs(np.mean(values) - 0.5) < 0.02


def test_class_thresholds_help_only_where_classes_differ() -> None:
    labels = np.repeat([0, 1], 40)
    members, nonmembers = np.tile([1.0, 1.1], 40) + 10 * labels, np.tile([0.0, 0.1], 40) + 10 * labels
    both = {"member_labels": labels, "nonmember_labels": labels}
    assert s.balanced_accuracy(members, nonmembers).value == pytest.approx(0.75)
    assert s.balanced_accuracy(members, nonmembers, class_thresholds=True, **both).value == 1.0
    few = np.arange(80)  # one example per class: the common threshold
    got = s.balanced_accuracy(members, nonmembers, class_thresholds=True, member_labels=few, nonmember_labels=few)
    assert got.value == s.balanced_accuracy(members, nonmembers).value
    with pytest.raises(UsageError):
        s.balanced_accuracy(members, nonmembers, class_thresholds=True)


def test_smallest_detectable_auc() -> None:
    expected = 0.5 + (1.6448536 + 0.8416212) * math.sqrt(201 / 120000)
    assert s.smallest_detectable_auc(100, 100) == pytest.approx(expected, abs=1e-6)
    assert s.smallest_detectable_auc(1, 1) == 1.0
    rng, edge = np.random.default_rng(5), math.sqrt(2) * norm.ppf(expected)
    found = sum(s.auc(rng.normal(edge, 1, 100), rng.normal(size=100), confidence=0.9).low > 0.5 for _ in range(300))
    assert 0.7 < found / 300 < 0.9
    for m, n in ((0, 5), (5, 0)):
        with pytest.raises(DataError):
            s.smallest_detectable_auc(m, n)


def test_paired_auc_difference_matches_the_covariance() -> None:
    rng = np.random.default_rng(6)
    members, nonmembers = rng.normal(0.5, 1, (2, 35)), rng.normal(0, 1, (2, 27))
    aucs, cov = s.delong_covariance(members, nonmembers)
    got = s.paired_auc_difference(members[0], nonmembers[0], members[1], nonmembers[1], alpha=0.05, alpha_low=0.01)
    spread = math.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    assert got.value == pytest.approx(aucs[0] - aucs[1])
    assert got.high == pytest.approx(got.value + norm.ppf(0.95) * spread)
    assert got.low == pytest.approx(got.value - norm.ppf(0.99) * spread)


@pytest.mark.parametrize("difference", [s.paired_auc_difference, s.paired_tpr_difference])
def test_paired_differences_are_zero_where_decisions_are_the_same(difference) -> None:
    rng = np.random.default_rng(7)
    members, nonmembers = rng.normal(0.5, 1, 120), rng.normal(0, 1, 120)
    for other in (lambda v: v, lambda v: 3 * v + 1):
        got = difference(members, nonmembers, other(members), other(nonmembers))
        assert (got.value, got.low, got.high) == (0.0, 0.0, 0.0)
    # Perfect separation on both sides, but not the same ranking: zero seen is not zero known.
    got = difference(members + 100, nonmembers, members[::-1] + 100, nonmembers)
    assert got.value == 0.0
    assert got.high == pytest.approx(1 - 0.05 ** (1 / 120))
    with pytest.raises(DataError):
        difference(members, nonmembers, members[1:], nonmembers)


def test_paired_auc_bounds_hold_at_their_rate() -> None:
    rng, above = np.random.default_rng(8), 0
    for _ in range(400):
        x, y = rng.normal(0.3, 1, 80), rng.normal(0, 1, 80)
        noisy = [v + rng.normal(0, 0.5, 80) for v in (x, y, x, y)]
        above += s.paired_auc_difference(*noisy).low > 0
    assert above <= 35  # 20 expected, standard deviation 4.4


def plain_bootstrap(data: tuple[np.ndarray, ...], fpr: float, resamples: int, seed: int = 0) -> np.ndarray:
    """The slow twin: every resample drawn example by example, every threshold found anew."""
    rng, (m, n) = np.random.default_rng(seed), (len(data[0]), len(data[1]))

    def rate(i: np.ndarray, j: np.ndarray, members: np.ndarray, nonmembers: np.ndarray) -> np.ndarray:
        return rates._found(members[i], nonmembers[j], fpr).mean(axis=-1)

    i, j = rng.integers(m, size=(resamples, m)), rng.integers(n, size=(resamples, n))
    return rate(i, j, *data[:2]) - rate(i, j, *data[2:])


def bootstrap(data: tuple[np.ndarray, ...], fpr: float, resamples: int = 2000) -> np.ndarray:
    allowed = allowed_false_positives(len(data[1]), fpr)
    return bootstrap_module.resampled_differences(data[:2], data[2:], allowed, np.random.default_rng(1), resamples)


def by_counting(data: tuple[np.ndarray, ...], fpr: float, alpha: float, alpha_low: float) -> tuple[float, float]:
    """Bounds from the members above one threshold and not above the other; scores must not tie."""
    above = [x > threshold_at_fpr(y, fpr) for x, y in (data[:2], data[2:])]
    m, both = len(data[0]), (above[0] & ~above[1], above[1] & ~above[0])
    (gain, loss) = (int(one.sum()) for one in both)

    def edge(count: int, tail: float, high: bool) -> float:
        found = binomtest(count, m).proportion_ci(1 - 2 * tail, method="exact")
        return found.high if high else found.low

    down = math.hypot(gain / m - edge(gain, alpha_low, False), edge(loss, alpha_low, True) - loss / m)
    up = math.hypot(edge(gain, alpha, True) - gain / m, loss / m - edge(loss, alpha, False))
    return (gain - loss) / m - down, (gain - loss) / m + up


@pytest.mark.parametrize("noise", [0.01, 0.1, 2.0])
def test_paired_tpr_difference_is_the_wider_of_its_bootstrap_and_of_counting(noise: float) -> None:
    rng = np.random.default_rng(9)
    members, nonmembers = rng.normal(1, 1, 90), rng.normal(0, 1, 110)
    data = members, nonmembers, members + rng.normal(0, noise, 90), nonmembers + rng.normal(0, noise, 110)
    got = s.paired_tpr_difference(*data, fpr=0.1, alpha=0.05, alpha_low=0.01, seed=1)
    assert got == s.paired_tpr_difference(*data, fpr=0.1, alpha=0.05, alpha_low=0.01, seed=1)
    assert got.value == pytest.approx(slow_tpr(*data[:2], 0.1) - slow_tpr(*data[2:], 0.1))
    drawn, (low, high) = bootstrap(data, 0.1), by_counting(data, 0.1, 0.05, 0.01)
    assert got.low == pytest.approx(min(low, np.quantile(drawn, 0.01, method="lower")))
    assert got.high == pytest.approx(max(high, np.quantile(drawn, 0.95, method="higher")))


def test_a_few_more_members_found_than_the_margin_allows_pass_at_their_rate_at_most() -> None:
    """Of 200 members 2 % are found by the file alone, the others as before: too few for a bootstrap of their number."""
    rng, passed, runs = np.random.default_rng(13), 0, 300
    for seed in range(runs):
        members, nonmembers = rng.normal(0.5, 1, 200), rng.normal(0, 1, 200)
        file = np.where(rng.random(200) < 0.0212, 10 + rng.random(200), members + rng.normal(0, 1e-3, 200))
        shifted = nonmembers + rng.normal(0, 1e-3, 200)
        passed += s.paired_tpr_difference(file, shifted, members, nonmembers, seed=seed).high < 0.02
    assert passed <= 0.05 * runs  # the bootstrap alone: 0.09


@pytest.mark.parametrize(("alpha", "resamples"), [(0.05, 2000), (5e-4, 2000), (2e-4, 5000), (1e-5, 100_000)])
def test_a_bound_at_a_small_error_rate_is_drawn_often_enough(alpha: float, resamples: int) -> None:
    rng = np.random.default_rng(14)
    data = rng.normal(0, 1, 60), rng.normal(0, 1, 60), rng.normal(0, 1, 60), rng.normal(0, 1, 60)
    got = s.paired_tpr_difference(*data, fpr=0.1, alpha=alpha)
    assert got.method == f"paired bootstrap, {resamples} resamples"
    assert -1 < got.low < got.value < got.high < 1
    nothing = s.paired_tpr_difference(*data, fpr=0.1, alpha=0.4, alpha_low=9e-6)
    assert (nothing.low, nothing.high < 1) == (-1.0, True), "no number of draws that we make tells"


@pytest.mark.parametrize("values", [3, 8, 100])
def test_the_bootstrap_has_exactly_the_distribution_of_all_resamples(values: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        data = tuple(rng.integers(values, size=size).astype(float) for size in (3, 4, 3, 4))
        i = np.array(list(itertools.product(range(3), repeat=3)))
        j = np.array(list(itertools.product(range(4), repeat=4)))
        pick, other = np.repeat(np.arange(27), 256), np.tile(np.arange(256), 27)
        rate = [rates._found(x[i[pick]], y[j[other]], 0.3).mean(axis=-1) for x, y in (data[:2], data[2:])]
        exact = np.sort(np.round(rate[0] - rate[1], 9))
        drawn = np.sort(np.round(bootstrap(data, 0.3, 40_000), 9))
        at = np.union1d(exact, drawn)
        gap = np.searchsorted(exact, at, "right") / len(exact) - np.searchsorted(drawn, at, "right") / len(drawn)
        assert np.abs(gap).max() < 0.0117  # Dvoretzky-Kiefer-Wolfowitz at 1e-4.6 for 40,000 draws


@pytest.mark.parametrize(
    ("sizes", "fpr", "step"), [((300, 400), 0.01, 0.0), ((211, 333), 0.05, 0.25), ((90, 900), 0.3, 1.0)]
)
def test_the_bootstrap_agrees_with_its_slow_twin(sizes: tuple[int, int], fpr: float, step: float, monkeypatch) -> None:
    """``step``: scores rounded to multiples of it, so that they tie, at the threshold and elsewhere."""
    rng, (m, n) = np.random.default_rng(11), sizes
    members, nonmembers = rng.normal(0.7, 1, m), rng.normal(0, 1, n)
    data = members, nonmembers, members + rng.normal(0, 0.5, m), nonmembers + rng.normal(0, 0.5, n)
    if step:
        data = tuple(step * np.round(x / step) for x in data)
    fast, slow = np.round(bootstrap(data, fpr, 6000), 9), np.round(plain_bootstrap(data, fpr, 6000), 9)  # as reals
    assert ks_2samp(fast, slow).pvalue > 0.01
    for chunk in (1, 777, 1500, 5000, 10**6):
        monkeypatch.setattr(bootstrap_module, "CHUNK", chunk)
        assert len(bootstrap(data, fpr, 50)) == 50


@quick
@given(data=st.data(), m=st.integers(1, 9), n=st.integers(2, 30), fpr=st.sampled_from([0.5, 0.7, 0.99]))
def test_the_bootstrap_takes_any_shape_and_stays_within_what_can_be(data, m, n, fpr) -> None:
    values = st.integers(-3, 3).map(float)
    drawn = [np.array(data.draw(st.lists(values, min_size=size, max_size=size))) for size in (m, n, m, n)]
    got = bootstrap(tuple(drawn), fpr)
    assert got.shape == (2000,)
    assert (np.abs(got) <= 1 + 1e-12).all()
    same = bootstrap((*drawn[:2], *drawn[:2]), fpr)
    assert (same == 0).all()


def test_what_lies_outside_the_levels_never_is_a_threshold() -> None:
    rng = np.random.default_rng(12)
    nonmembers = rng.normal(size=5000)
    levels, index = bootstrap_module._levels(nonmembers, 50)
    assert len(levels) < 120
    assert (levels[0], levels[-1]) == (-np.inf, np.inf)
    above, below = (index == len(levels) - 1).sum(), (index > 0).sum()
    assert binom.sf(50, 5000, above / 5000) <= bootstrap_module.UNSEEN < binom.sf(50, 5000, (above + 1) / 5000)
    assert binom.cdf(50, 5000, below / 5000) <= bootstrap_module.UNSEEN < binom.cdf(50, 5000, (below - 1) / 5000)


def test_roc_points_are_few_and_on_the_curve() -> None:
    rng = np.random.default_rng(10)
    members, nonmembers = rng.normal(0.5, 1, 900), rng.normal(0, 1, 1100)
    got = s.roc_points(members, nonmembers)
    assert len(got["fpr"]) == len(got["tpr"]) <= 200
    assert (got["fpr"][0], got["tpr"][0], got["fpr"][-1], got["tpr"][-1]) == (0, 0, 1, 1)
    full = roc_curve(np.repeat([1, 0], [900, 1100]), np.concatenate([members, nonmembers]), drop_intermediate=False)
    assert set(zip(got["fpr"], got["tpr"], strict=True)) <= set(zip(full[0].tolist(), full[1].tolist(), strict=True))
    assert np.trapezoid(got["tpr"], got["fpr"]) == pytest.approx(slow_auc(members, nonmembers), abs=0.01)
    assert s.roc_points(np.ones(0), np.ones(3)) == {"fpr": [], "tpr": []}


def test_scores_and_options_are_checked() -> None:
    with pytest.raises(DataError):
        s.auc(np.array([np.nan]), np.ones(3))
    with pytest.raises(DataError):
        s.delong_covariance(np.ones((1, 1)), np.ones((1, 5)))
    with pytest.raises(UsageError):
        s.tpr_at_fpr(np.ones(3), np.ones(3), fpr=0.0)
    with pytest.raises(UsageError):
        s.ppv(np.ones(3), np.ones(3), prior=1.0)


@pytest.mark.parametrize("allowed", [1, 5, 20, 51, 100, 400])
def test_the_outermost_levels_are_as_near_as_the_chance_allows(allowed: int) -> None:
    n = 5000
    levels, index = bootstrap_module._levels(np.random.default_rng(13).permutation(n).astype(float), allowed)
    above = int((index == len(levels) - 1).sum()) if levels[-1] == np.inf else 0
    below = int((index > 0).sum()) if levels[0] == -np.inf else n
    assert binom.sf(allowed, n, above / n) <= bootstrap_module.UNSEEN < binom.sf(allowed, n, (above + 1) / n)
    assert binom.cdf(allowed, n, below / n) <= bootstrap_module.UNSEEN < binom.cdf(allowed, n, (below - 1) / n)


def test_a_short_roc_has_every_corner_and_a_thinned_one_those_at_low_rates() -> None:
    rng = np.random.default_rng(14)
    members, nonmembers = rng.normal(0.5, 1, 900), rng.normal(0, 1, 1100)
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [900, 1100]), np.concatenate([members, nonmembers]))
    corners = list(zip(fpr.tolist(), tpr.tolist(), strict=True))
    for points in (len(corners), len(corners) + 1, len(corners) - 1, 40):
        got = s.roc_points(members, nonmembers, max_points=points)
        kept = [corners.index(point) for point in zip(got["fpr"], got["tpr"], strict=True)]
        assert kept[:4] == [0, 1, 2, 3] if points > 40 else [0, 1, 2]
        assert (kept[-1], len(kept) <= points) == (len(corners) - 1, True)
        assert (kept == list(range(len(corners)))) == (points >= len(corners))
        assert max(np.diff(kept)) <= math.ceil(len(corners) / (points // 2 - 1))
    assert len(kept) > 30, "few of the two halves coincide"
