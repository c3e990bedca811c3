"""What is measured and compared is what the statistics give for each attack and group, at the level of the rule."""

from __future__ import annotations

import numpy as np
import pytest

from mobileprune.attacks import Scores
from mobileprune.audit import statistics as s
from mobileprune.audit.compare import added_auc, against_ceiling, against_source, check_paired, measure, paired_auc
from mobileprune.errors import DataError

M, N, CANARIES = 1300, 1250, 220
ATTACKS = ("loss", "modified_entropy", "gap")


def scored(seed: int, attacks: tuple[str, ...] = ATTACKS, noise: float = 0.3) -> Scores:
    """The same examples at every seed; ``noise``: what differs of the scores."""
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    member = np.arange(M + N) < M
    position = np.where(member, np.arange(M + N), np.arange(M + N) - M)
    values = {name: rng.normal(0.3 * (i + 1) * member, 1) for i, name in enumerate(ATTACKS)}
    return Scores(
        {name: values[name] + own.normal(0, noise, M + N) for name in attacks},
        {name: "logits" if name == "loss" else "top-k" for name in attacks},
        {},
        rng.integers(3, size=M + N),
        member,
        position < CANARIES,
    )


def part(found: Scores, group: str) -> Scores:
    return found if group == "all" else found.where(found.canary)


def test_a_measurement_is_each_statistic_of_its_attack() -> None:
    found, level = scored(1), 0.9
    measured = measure(found, confidence=level)
    assert list(measured) == ["all", "canaries"]
    for group, by_attack in measured.items():
        assert list(by_attack) == list(ATTACKS)
        for name, got in by_attack.items():
            own = part(found, group)
            sides, labels = own.sides(name), (own.labels[own.member], own.labels[~own.member])
            assert (got.attack, got.access) == (name, found.access[name])
            assert (got.members, got.nonmembers) == tuple(map(len, sides))
            assert got.auc == s.auc(*sides, confidence=level)
            assert got.tpr_at_1pct_fpr == s.tpr_at_fpr(*sides, fpr=0.01, confidence=level)
            assert got.tpr_at_01pct_fpr == s.tpr_at_fpr(*sides, fpr=0.001, confidence=level)
            assert got.ppv_at_prior_1pct == s.ppv(*sides, prior=0.01, confidence=level)
            assert got.ppv_at_prior_10pct == s.ppv(*sides, prior=0.1, confidence=level)
            by_class = {"member_labels": labels[0], "nonmember_labels": labels[1], "class_thresholds": True}
            expected = s.balanced_accuracy(*sides, confidence=level, **by_class if name == "modified_entropy" else {})
            assert got.balanced_accuracy == expected
            assert got.roc == s.roc_points(*sides)
            assert got.to_dict()["auc"] == got.auc.to_dict()


def test_a_ceiling_is_held_against_bounds_of_which_the_lower_is_shared_out() -> None:
    found, alpha = scored(1), 0.04
    got = against_ceiling(found, "canaries", limit=0.6, alpha=alpha)
    names = [said for name in ATTACKS for said in (name, f"reversed {name}")]
    assert [(c.attack, c.group, c.metric, c.limit) for c in got] == [(n, "canaries", "auc", 0.6) for n in names]
    for one in got:
        members, nonmembers = found.sides(one.attack.removeprefix("reversed "))
        sides = (nonmembers, members) if one.attack.startswith("reversed") else (members, nonmembers)
        upper, lower = s.auc(*sides, confidence=1 - 2 * alpha), s.auc(*sides, confidence=1 - 2 * alpha / 6)
        assert one.estimate.value == pytest.approx(upper.value, abs=1e-12)
        assert (one.estimate.low, one.estimate.high) == pytest.approx((lower.low, upper.high), abs=1e-12)
        assert one.estimate.confidence == pytest.approx(1 - alpha - alpha / 6)
        assert (one.estimate.method, one.estimate.note) == ("DeLong, logit scale", None)


def test_a_source_is_held_against_bounds_of_which_the_lower_is_shared_out_over_groups_and_metrics() -> None:
    ours, theirs, alpha = scored(1), scored(2, ("gap", "loss")), 0.04
    got = against_source(ours, theirs, auc_margin=0.02, tpr_margin=0.03, alpha=alpha)
    expected = []
    for group in ("all", "canaries"):
        for name in ("loss", "gap"):  # those of both, in the artifact's order
            sides = (*part(ours, group).sides(name), *part(theirs, group).sides(name))
            levels = {"alpha": alpha, "alpha_low": alpha / (2 * 2 * 2)}
            area = s.paired_auc_difference(*sides, **levels)
            rate = s.paired_tpr_difference(*sides, fpr=0.01, **levels)
            expected += [(name, group, "auc", area, 0.02), (name, group, "tpr_at_1pct_fpr", rate, 0.03)]
    assert [(c.attack, c.group, c.metric, c.estimate, c.limit) for c in got] == expected


def test_nothing_is_added_by_hiding_scores_that_the_source_ranks_the_wrong_way_round() -> None:
    rng = np.random.default_rng(3)
    members, nonmembers, levels = rng.normal(-1, 1, 60), rng.normal(0, 1, 60), {"alpha": 0.05, "alpha_low": 0.01}
    hidden = np.zeros(60)
    assert s.paired_auc_difference(hidden, hidden, members, nonmembers, **levels).low > 0.02
    got = added_auc(hidden, hidden, members, nonmembers, **levels)
    upper, lower = s.auc(hidden, hidden, confidence=0.9), s.auc(hidden, hidden, confidence=0.98)
    assert (got.value, got.low, got.high) == (0, lower.low - 0.5, upper.high - 0.5)
    assert (got.confidence, got.method) == (pytest.approx(0.94), f"{upper.method}, above chance")
    shown = added_auc(-members, -nonmembers, members, nonmembers, **levels)  # what was hidden is told outright
    assert shown.value == pytest.approx(0.5 - s.auc(members, nonmembers).value)


def test_a_source_at_chance_is_what_the_artifact_is_held_against() -> None:
    rng = np.random.default_rng(4)
    sides, levels = rng.normal(0, 1, (4, 60)), {"alpha": 0.05, "alpha_low": 0.01}
    sides[2] -= 0.3
    assert s.auc(sides[2], sides[3]).value < 0.5 < s.auc(sides[2], sides[3]).high
    assert added_auc(*sides, **levels) == s.paired_auc_difference(*sides, **levels)


def test_a_rate_that_is_not_resolvable_is_not_compared() -> None:
    few = np.r_[0:40, M : M + 40]
    ours, theirs = (found.where(np.isin(np.arange(M + N), few)) for found in (scored(1), scored(2)))
    got = against_source(ours, theirs, auc_margin=0.02, tpr_margin=0.03, alpha=0.05)
    assert {c.metric for c in got} == {"auc"}
    assert len(got) == 2 * len(ATTACKS)


def test_two_models_differ_by_their_aucs_in_each_group() -> None:
    ours, theirs = scored(1), scored(2, ("gap", "loss"))
    got = paired_auc(ours, theirs, confidence=0.8)
    assert [(group, *by_attack) for group, by_attack in got.items()] == [
        ("all", "loss", "gap"),
        ("canaries", "loss", "gap"),
    ]
    for group, by_attack in got.items():
        for name, estimate in by_attack.items():
            sides = (*part(ours, group).sides(name), *part(theirs, group).sides(name))
            expected = s.paired_auc_difference(*sides, alpha=0.1)
            assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
            assert (estimate.value, estimate.confidence) == (expected.value, pytest.approx(0.8))


@pytest.mark.parametrize("name", ["labels", "member", "canary"])
def test_scores_of_other_examples_are_refused(name: str) -> None:
    ours, theirs = scored(1), scored(2)
    changed = getattr(theirs, name).copy()
    changed[7] = 1 - changed[7] if changed.dtype != bool else not changed[7]
    other = Scores(**{**vars(theirs), name: changed})
    for call in (check_paired, paired_auc):
        with pytest.raises(DataError, match=f"{name} differ"):
            call(ours, other)
