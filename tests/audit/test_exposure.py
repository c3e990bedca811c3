"""Who is exposed: the breakdown against the parts taken by hand, and the surest members."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.attacks import Scores
from mobileprune.audit.auc import auc
from mobileprune.audit.exposure import breakdown, exposure, most_exposed


def example(m: int, n: int, *, classes: int = 3, canaries: int = 0, seed: int = 0) -> Scores:
    rng, member = np.random.default_rng(seed), np.arange(m + n) < m
    position = np.where(member, np.cumsum(member), np.cumsum(~member)) - 1
    labels = position % classes
    values = {"a": rng.normal(0.5 * member, 1)}
    return Scores(values, {"a": "logits"}, {}, labels.astype(np.int64), member, position < canaries)


def test_classes_and_kinds_are_the_parts_with_simultaneous_intervals() -> None:
    scores = example(90, 90, canaries=12)
    got = exposure(scores, "a")
    for label in range(3):
        sides = scores.where(scores.labels == label).sides("a")
        expected = auc(*sides, confidence=1 - 0.05 / 3)
        found = got.by_class[str(label)]
        assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
        assert found.confidence == 0.95
        assert found.method.endswith("(Bonferroni) over 3 groups and 1 attacks")
    kinds = [auc(*scores.where(mask).sides("a"), confidence=0.975) for mask in (scores.canary, ~scores.canary)]
    assert [k.low for k in got.by_kind.values()] == [k.low for k in kinds]
    assert list(got.by_kind) == ["canaries", "others"]


def test_the_intervals_hold_for_an_attack_that_was_chosen_among_others() -> None:
    scores = example(90, 90, canaries=12)
    others = dict.fromkeys("abcd", scores.by_attack["a"])
    got = exposure(replace(scores, by_attack=others, access=dict.fromkeys(others, "logits")), "c")
    for mask, found in zip((scores.canary, ~scores.canary), got.by_kind.values(), strict=True):
        expected = auc(*scores.where(mask).sides("a"), confidence=1 - 0.05 / (2 * 4))
        assert (found.low, found.high) == (expected.low, expected.high)
    assert "over 3 groups and 4 attacks" in got.by_class["0"].method


def test_the_surest_members_are_named_by_their_files_where_there_are_any() -> None:
    scores = example(120, 120)
    plain = exposure(scores, "a").most_exposed.examples
    named = exposure(scores, "a", files=[f"cats/{i}.png" for i in range(240)]).most_exposed.examples
    assert plain
    assert [each.file for each in plain] == [None] * len(plain)
    assert [each.file for each in named] == [f"cats/{each.position}.png" for each in named]


def test_small_groups_are_not_resolvable_and_cost_nothing() -> None:
    scores = example(40, 40, classes=1, canaries=9)
    got = exposure(scores, "a")
    assert got.by_kind["canaries"].value is None
    assert "9 members and 9 non-members" in got.by_kind["canaries"].note
    alone = auc(*scores.where(~scores.canary).sides("a"))
    assert got.by_kind["others"].low == pytest.approx(alone.low)


def test_the_intervals_hold_together() -> None:
    missed = 0
    for seed in range(200):
        scores = example(200, 200, classes=10, seed=seed)
        quiet = Scores(
            {"a": np.random.default_rng(seed).normal(size=400)}, *(vars(scores)[k] for k in list(vars(scores))[1:])
        )
        groups = {str(k): quiet.labels == k for k in range(10)}
        missed += any(not e.low <= 0.5 <= e.high for e in breakdown(quiet, "a", groups).values())
    assert missed <= 19  # 10 expected, standard deviation 3.1


def test_the_surest_members_are_those_above_the_threshold_in_order() -> None:
    member = np.array([False] * 100 + [True] * 6)
    values = np.concatenate([np.arange(100.0), [98.0, 98.5, 200.0, 3.0, 98.5, 150.0]])
    scores = Scores({"a": values}, {"a": "logits"}, {}, np.arange(106) % 4, member, np.arange(106) == 102)
    got = most_exposed(scores, "a", k=3)
    assert (got.threshold, got.found, got.by_chance) == (98.0, 4, 0.06)
    assert [e.position for e in got.examples] == [102, 105, 101]
    assert [e.canary for e in got.examples] == [True, False, False]
    assert [e.score for e in got.examples] == [200.0, 150.0, 98.5]
    assert got.examples[0].label == 102 % 4
    assert [e.position for e in most_exposed(scores, "a").examples] == [102, 105, 101, 104]
    none = most_exposed(scores, "a", fpr=0.001)
    assert (none.threshold, none.found, none.examples) == (None, 0, ())
    assert none.note.startswith("not resolvable")


@settings(max_examples=40)
@given(m=st.integers(0, 30), n=st.integers(0, 130), k=st.integers(0, 5), canaries=st.integers(0, 3))
def test_any_size_is_plain_json_without_pixels(m: int, n: int, k: int, canaries: int) -> None:
    scores = example(m, n, canaries=canaries)
    got = exposure(scores, "a", k=k)
    text = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert len(text["most_exposed"]["examples"]) == min(k, got.most_exposed.found)
    for one in text["most_exposed"]["examples"]:
        assert set(one) == {"position", "label", "canary", "score"}
        assert scores.member[one["position"]]


def test_every_option_reaches_the_parts() -> None:
    scores = example(250, 250, canaries=30)
    got = exposure(scores, "a", fpr=0.1, k=3, confidence=0.9)
    classes = {str(label): scores.labels == label for label in range(3)}
    kinds = {"canaries": scores.canary, "others": ~scores.canary}
    assert got.attack == "a"
    assert got.by_class == breakdown(scores, "a", classes, confidence=0.9)
    assert got.by_kind == breakdown(scores, "a", kinds, confidence=0.9)
    assert got.most_exposed == most_exposed(scores, "a", fpr=0.1, k=3)
    assert (len(got.most_exposed.examples), got.most_exposed.by_chance) == (3, 25.0)
    assert {e.confidence for e in (*got.by_class.values(), *got.by_kind.values())} == {0.9}
    assert len(exposure(scores, "a", fpr=0.1).most_exposed.examples) == 10


def test_without_canaries_there_are_no_kinds() -> None:
    assert exposure(example(40, 40), "a").by_kind == {}


def test_ten_of_each_side_make_a_group() -> None:
    member = np.r_[np.tile([True, False], 40), np.zeros(11, bool)]
    values, labels = np.random.default_rng(0).normal(member * 1.0, 1), np.repeat([0, 1, 2, 3, 1], [20, 18, 20, 22, 11])
    scores = Scores({"a": values}, {"a": "logits"}, {}, labels, member, np.zeros(91, bool))
    got = exposure(scores, "a", confidence=0.9).by_class
    assert {name: found.value is not None for name, found in got.items()} == {
        "0": True,
        "1": False,
        "2": True,
        "3": True,
    }
    assert got["1"].note == "not resolvable: 9 members and 20 non-members, at least 10 of each"
    assert (got["1"].confidence, got["1"].method) == (0.9, "simultaneous (Bonferroni)")
    assert got["0"].method.endswith(", simultaneous (Bonferroni) over 3 groups and 1 attacks")


def test_without_a_threshold_the_expectation_is_still_said() -> None:
    got = most_exposed(example(30, 50), "a", fpr=0.01)
    assert (got.attack, got.fpr, got.by_chance) == ("a", 0.01, pytest.approx(0.3))
    assert got.note == "not resolvable: an FPR of 0.01 needs at least 100 non-members, there are 50"
    assert most_exposed(example(0, 200), "a").note == "not resolvable: there are no members"
