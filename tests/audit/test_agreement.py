"""The same numbers as other tools on the same scores, and as small cases worked out by hand."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import balanced_accuracy_score, precision_score, roc_auc_score, roc_curve

from mobileprune.attacks import ATTACKS, Evidence
from mobileprune.audit import statistics as s

quick = settings(max_examples=40)
tied = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=23)


def optional(name: str) -> ModuleType:
    """A tool that need not be installed; what it warns about on import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def case(seed: int, m: int = 300, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Members' scores, non-members' scores, both, and who is a member."""
    rng = np.random.default_rng(seed)
    members, nonmembers = rng.normal(0.6, 1, m), rng.normal(0, 1, n)
    return members, nonmembers, np.concatenate([members, nonmembers]), np.repeat([1, 0], [m, n])


@quick
@given(members=tied, nonmembers=tied)
def test_auc_is_that_of_scikit_learn_and_of_mann_whitney(members: list[float], nonmembers: list[float]) -> None:
    truth = np.repeat([1, 0], [len(members), len(nonmembers)])
    got = s.auc(np.array(members), np.array(nonmembers)).value
    assert got == pytest.approx(roc_auc_score(truth, members + nonmembers), abs=1e-12)
    wins = (
        mannwhitneyu(members, nonmembers, method="asymptotic").statistic if len(set(members + nonmembers)) > 1 else None
    )
    if wins is not None:
        assert got == pytest.approx(wins / len(members) / len(nonmembers), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_rates_are_those_of_scikit_learn(seed: int) -> None:
    members, nonmembers, both, truth = case(seed)
    fpr, tpr, thresholds = roc_curve(truth, both, drop_intermediate=False)
    for target in (0.01, 0.05, 0.1, 0.5):
        last = np.flatnonzero(fpr <= target)[-1]
        assert s.tpr_at_fpr(members, nonmembers, fpr=target).value == pytest.approx(tpr[last])
    called = both >= thresholds[np.flatnonzero(fpr <= 0.01)[-1]]
    weights = np.where(truth, 0.1 / len(members), 0.9 / len(nonmembers))
    expected = precision_score(truth, called, sample_weight=weights)
    assert s.ppv(members, nonmembers, prior=0.1).value == pytest.approx(expected)


def test_balanced_accuracy_is_that_of_scikit_learn_for_scores_that_need_no_threshold() -> None:
    rng = np.random.default_rng(5)
    members, nonmembers = (rng.random(200) < 0.8).astype(float), (rng.random(150) < 0.4).astype(float)
    expected = balanced_accuracy_score(np.repeat([1, 0], [200, 150]), np.concatenate([members, nonmembers]))
    assert s.balanced_accuracy(members, nonmembers).value == pytest.approx(expected)


def test_small_cases_by_hand() -> None:
    members, nonmembers = np.array([0.9, 0.8, 0.4]), np.array([0.8, 0.3])
    # 0.9 beats both, 0.8 ties with one and beats the other, 0.4 beats one: (2 + 1.5 + 1) / 6.
    assert s.auc(members, nonmembers).value == 4.5 / 6
    # One false positive of two allowed: above 0.3 lie all three members.
    assert s.tpr_at_fpr(members, nonmembers, fpr=0.5).value == 1.0
    # Members 1, 2, 3 against 0 and 2.5: placements (1, 1, 2) / 2 and (3, 1) / 3.
    areas, covariance = s.delong_covariance(np.array([[1.0, 2, 3]]), np.array([[0.0, 2.5]]))
    assert areas[0] == pytest.approx(4 / 6)
    assert covariance[0, 0] == pytest.approx((1 / 12) / 3 + (2 / 9) / 2)
    # 9 of 10 guesses right: the q with P[Binomial(10, q) >= 9] = 10 q^9 - 9 q^10 = 0.05, then its logit.
    bound = s.epsilon_lower_bound(9, 10)
    q = np.exp(bound) / (1 + np.exp(bound))
    assert 10 * q**9 - 9 * q**10 == pytest.approx(0.05)


@pytest.mark.parametrize("seed", range(4))
def test_tpr_is_that_of_art(seed: int) -> None:
    art = optional("art.metrics.privacy.worst_case_mia_score")
    members, nonmembers, both, truth = case(seed)
    labels = np.arange(700) % 2
    for target in (0.01, 0.05, 0.1):
        (fpr, tpr, _), ours = (
            art.get_roc_for_fpr(both, truth, targeted_fpr=target)[0],
            s.tpr_at_fpr(members, nonmembers, fpr=target),
        )
        assert ours.value >= tpr - 1e-12  # it drops points in the middle of a straight piece of the curve
        if fpr == pytest.approx(target):
            assert ours.value == pytest.approx(tpr)
    for label, fpr, tpr, _ in art.get_roc_for_fpr(both, truth, labels, targeted_fpr=0.1):
        own = labels == label
        ours = s.tpr_at_fpr(both[own & (truth == 1)], both[own & (truth == 0)], fpr=0.1)
        assert ours.value >= tpr - 1e-12
        assert fpr <= 0.1


def test_the_gap_attack_is_arts_rule_based_attack() -> None:
    inference = optional("art.attacks.inference.membership_inference")
    classifiers = optional("art.estimators.classification")
    rng = np.random.default_rng(6)
    logits, labels = rng.normal(size=(90, 5)), rng.integers(5, size=90)
    inputs = np.arange(90, dtype=np.float32)[:, None]
    model = classifiers.BlackBoxClassifier(lambda x: logits[x[:, 0].astype(int)], (1,), 5)
    found = inference.MembershipInferenceBlackBoxRuleBased(model).infer(inputs, labels)
    assert np.array_equal(ATTACKS["gap"].score(Evidence(logits, labels)), found.ravel())


@pytest.mark.parametrize("seed", range(4))
def test_auc_and_its_p_value_are_those_of_sacro_ml(seed: int) -> None:
    sacro = optional("sacroml.metrics")
    members, nonmembers, both, truth = case(seed)
    probability = 1 / (1 + np.exp(-both))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it interpolates thresholds of which the first is infinite
        theirs = sacro.get_metrics(np.stack([1 - probability, probability], axis=1), truth, permute_rows=False)
    assert s.auc(members, nonmembers).value == pytest.approx(theirs["AUC"], abs=1e-8)
    test = mannwhitneyu(members, nonmembers, alternative="greater", method="asymptotic", use_continuity=False)
    assert theirs["P_HIGHER_AUC"] == pytest.approx(test.pvalue, abs=1e-6)
    for percent in (10, 20, 50):
        ours = s.tpr_at_fpr(members, nonmembers, fpr=percent / 100).value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert sacro._tpr_at_fpr(truth, probability, fpr=percent) == pytest.approx(ours, abs=0.02)
