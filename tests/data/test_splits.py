"""Splits: what one-run auditing assumes of them, exact counts, stated membership, and the hash that names them."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.config import MOST_TEST
from mobileprune.data import Images
from mobileprune.data.splits import MIN_PAIRS, Splits, _distinct, _divided, default_canaries, redrawn, split
from mobileprune.errors import DataError

PARTS = ("members", "held_out", "reference", "test")


def distinct(count: int, classes: int = 3, member: np.ndarray | None = None) -> Images:
    pixels = np.zeros((count, 1, 2, 2), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    labels = (np.arange(count) % classes).astype(np.int64)
    return Images("set", pixels, labels, tuple(f"c{k}" for k in range(classes)), member)


def stated(inside: int, outside: int) -> Images:
    """Members and non-members alternate as long as there are both."""
    order = np.argsort(np.r_[np.arange(inside), np.arange(outside) + 0.5], kind="stable")
    return distinct(inside + outside, member=order < inside)


def indices(splits: Splits) -> list[list[int]]:
    return [getattr(splits, part).tolist() for part in PARTS]


@settings(max_examples=60)
@given(st.integers(MIN_PAIRS, 70), st.integers(2, 40), st.floats(0, 0.5), st.integers(2, 5), st.integers(0, 2**40))
def test_drawn_splits_have_exact_counts(wanted, extra, canaries, classes, seed):
    images = distinct(2 * wanted + extra, classes)
    splits = split(images, seed=seed, members=wanted, canaries=canaries)
    assert len(splits.members) == len(splits.held_out) == wanted
    assert sorted(chain(*indices(splits))) == list(range(2 * wanted + extra)), "disjoint, and nothing is lost"
    assert 0 <= len(splits.test) - len(splits.reference) <= 1

    planted = round(canaries * wanted)
    assert splits.counts()["canary_members"] == splits.counts()["canary_held_out"] == planted
    assert int(splits.canary.sum()) == 2 * planted
    assert (splits.canary[splits.members] == splits.canary[splits.held_out]).all(), "a canary's partner is a canary"
    assert (splits.labels[splits.canary] != images.labels[splits.canary]).all()
    assert (splits.labels[~splits.canary] == images.labels[~splits.canary]).all()
    assert 0 <= splits.labels.min() <= splits.labels.max() < classes
    assert splits.membership == "drawn"


def test_every_image_is_a_member_by_a_fair_and_independent_coin() -> None:
    runs, count = 400, 44
    member = np.zeros((runs, count))
    for seed in range(runs):
        splits = split(distinct(count), seed=seed, members=20)
        member[seed, splits.members], member[seed, splits.held_out] = 1, -1
    assert np.abs(member.sum(0)).max() < 4.5 * np.sqrt(runs), "each image is a member as often as held out"
    together = np.corrcoef(member.T)[~np.eye(count, dtype=bool)]
    assert np.abs(together).max() < 5 / np.sqrt(runs)
    assert abs(together.mean() + 1 / (count - 1)) < 0.01, "two images are only tied by the equal sizes"


def test_wrong_labels_take_every_wrong_class() -> None:
    images = distinct(600, classes=4)
    canary_labels = {
        (int(images.labels[i]), int(splits.labels[i]))
        for splits in [split(images, seed=0, members=200, canaries=0.5)]
        for i in np.flatnonzero(splits.canary)
    }
    assert canary_labels == {(a, b) for a in range(4) for b in range(4) if a != b}


@pytest.mark.parametrize("images", [distinct(100), stated(60, 60)], ids=["drawn", "stated"])
def test_the_seed_names_the_split(images: Images) -> None:
    first, again, other = (split(images, seed=seed, members=25, canaries=0) for seed in (7, 7, 8))
    assert indices(first) == indices(again)
    assert first.sha256() == again.sha256() != other.sha256()
    assert all(a != b for a, b in zip(indices(first), indices(other), strict=True))


def test_the_callers_images_and_global_rng_stay_untouched() -> None:
    images = distinct(100)
    labels, state = images.labels.copy(), np.random.get_state()[1].copy()
    split(images, seed=0, canaries=0.5)
    assert (images.labels == labels).all()
    assert (np.random.get_state()[1] == state).all()


@settings(max_examples=40)
@given(st.integers(MIN_PAIRS, 40), st.integers(2, 200), st.booleans(), st.integers(0, 99))
def test_the_reference_set_is_never_larger_than_the_members(wanted, extra, drawn, seed):
    """Else it would be the better training set of the two; what is over is tested on."""
    images = distinct(2 * wanted + extra) if drawn else stated(wanted, wanted + extra)
    splits = split(images, seed=seed, members=wanted, canaries=0)
    assert len(splits.reference) == min(extra // 2, wanted)
    assert len(splits.test) == extra - len(splits.reference)


@pytest.mark.parametrize("rest", [2 * MOST_TEST - 2, 2 * MOST_TEST, 2 * MOST_TEST + 2, 2 * MOST_TEST + 401])
@pytest.mark.parametrize("members", [20, 9_999, MOST_TEST, 10_100])
def test_no_more_than_ten_thousand_are_tested_on(rest: int, members: int) -> None:
    """A slow loop over what is neither member nor held out, in its random order."""
    reference, test = [], []
    for index in range(rest):
        if len(reference) < members and index < rest // 2:
            reference.append(index)
        elif len(test) < 10_000:
            test.append(index)
    found = _divided(np.arange(rest), members)
    assert [part.tolist() for part in found] == [reference, test]


def test_duplicates_are_used_once() -> None:
    images = distinct(60)
    twice = Images("set", np.tile(images.pixels, (3, 1, 1, 1)), np.roll(np.tile(images.labels, 3), 1), images.classes)
    splits = split(twice, seed=0)
    used = np.concatenate([splits.members, splits.held_out, splits.reference, splits.test])
    assert len(np.unique(twice.pixels[used], axis=0)) == len(used) == 60


@settings(max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(0, 99))
def test_the_first_of_equal_images_stays(values: list[int], seed: int) -> None:
    """Against a slow comparison with every image before it."""
    images = distinct(len(values))
    images.pixels[:, 0, 1] = np.array(values)[:, None]
    images.pixels[:, 0, 0] = 0
    order = np.random.default_rng(seed).permutation(len(values))
    kept = [i for n, i in enumerate(order) if values[i] not in [values[j] for j in order[:n]]]
    found = _distinct(images, order)
    assert (found.tolist(), found.dtype) == (sorted(kept), np.int64)


@pytest.mark.parametrize(("count", "expected"), [(62, 20), (300, 100), (15_300, 5_000)])
def test_default_size_is_a_third_up_to_a_maximum(count: int, expected: int) -> None:
    assert split(distinct(count), seed=0).counts()["members"] == expected


@pytest.mark.parametrize(("count", "members"), [(0, None), (41, None), (59, None), (41, 20), (100, 50), (100, 19)])
def test_too_few_images_are_refused(count: int, members: int | None) -> None:
    with pytest.raises(DataError, match=r"--members must lie between 20 and|at least 20 members"):
        split(distinct(count), seed=0, members=members)


@pytest.mark.parametrize(("dataset", "share"), [("digits", 0.1), ("npz:x.npz", 0.0), ("folder:x", 0.0)])
def test_only_research_sets_get_canaries_by_default(dataset: str, share: float) -> None:
    assert default_canaries(dataset) == share


@settings(max_examples=40)
@given(st.integers(20, 80), st.integers(22, 80), st.integers(0, 99))
def test_stated_members_are_the_only_members(inside, outside, seed):
    wanted = min(inside, outside - 2)
    images = stated(inside, outside)
    splits = split(images, seed=seed, members=wanted, canaries=0)
    assert splits.membership == "stated"
    assert len(splits.members) == len(splits.held_out) == wanted
    assert images.member[splits.members].all()
    assert not images.member[np.concatenate([splits.held_out, splits.reference, splits.test])].any()
    assert not splits.canary.any()
    assert len(set(chain(*indices(splits)))) == wanted + outside


@pytest.mark.parametrize("first", [True, False], ids=["member first", "member last"])
def test_a_duplicate_of_a_stated_member_is_never_held_out(first: bool) -> None:
    member = np.repeat([first, not first], 40)
    images = distinct(110, member=np.r_[member, np.zeros(30, bool)])
    images.pixels[40:80] = images.pixels[:40]
    splits = split(images, seed=0, members=20, canaries=0)
    used = np.concatenate([splits.held_out, splits.reference, splits.test])
    assert len(used) == 30
    assert used.min() >= 80


def test_canaries_cannot_be_planted_where_membership_is_stated() -> None:
    with pytest.raises(DataError, match=r"--canaries 0 instead of 0\.1"):
        split(stated(60, 60), seed=0, canaries=0.1)


@pytest.mark.parametrize(("inside", "outside"), [(0, 90), (19, 90), (90, 21), (90, 0)])
def test_too_few_on_one_stated_side_are_refused(inside: int, outside: int) -> None:
    with pytest.raises(DataError, match="too few distinct images"):
        split(stated(inside, outside), seed=0, canaries=0)


@settings(max_examples=40)
@given(st.integers(MIN_PAIRS, 45), st.booleans(), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_redraw_throws_only_the_coins_anew(wanted: int, drawn: bool, seed: int, redraw: int) -> None:
    images = distinct(2 * wanted + 9) if drawn else stated(wanted, wanted + 9)
    first = split(images, seed=seed, members=wanted, canaries=0.2 if drawn else 0)
    found, other = redrawn(first, seed, redraw), redrawn(first, seed, redraw ^ 1)
    pairs = [set(pair) for pair in zip(first.members.tolist(), first.held_out.tolist(), strict=True)]
    assert [set(pair) for pair in zip(found.members.tolist(), found.held_out.tolist(), strict=True)] == pairs
    for part in ("labels", "canary", "reference", "test"):
        assert (getattr(found, part) == getattr(first, part)).all(), part
    assert found.counts() == first.counts()
    assert (other.members == found.held_out).all(), "redraws 2j and 2j + 1 are complements"
    assert (other.held_out == found.members).all()
    assert found.membership == "drawn", "what the data stated no longer holds"
    assert len({s.sha256() for s in (first, found, other)}) == 3
    assert indices(redrawn(other, seed, redraw)) == indices(found), "the same from any redraw as from the target"


@pytest.mark.parametrize("images", [distinct(90), stated(40, 50)], ids=["drawn", "stated"])
def test_an_even_number_of_redraws_holds_every_example_in_half(images: Images) -> None:
    first = split(images, seed=3, members=30, canaries=0)
    asked = np.concatenate([first.members, first.held_out])
    inside = np.stack([np.isin(asked, redrawn(first, 3, r).members) for r in range(400)])
    for count in (2, 4, 10, 400):
        assert (inside[:count].sum(0) == count // 2).all()
    ties = np.corrcoef(inside[::2, :30].T)[~np.eye(30, dtype=bool)]
    assert np.abs(ties).max() < 5 / np.sqrt(200), "coins of different pairs are independent"
    assert np.abs(inside[::2].mean(1) - 0.5).max() == 0, "as many members as before"
    assert np.abs(inside[::2, :30].mean() - 0.5) < 5 / np.sqrt(200 * 30) / 2, "nothing is told of the target's coins"


def test_hashes_change_with_any_change() -> None:
    images = distinct(60)
    pixels, labels = images.pixels.copy(), images.labels.copy()
    pixels[59, 0, 1, 1] ^= 1
    labels[59] = (labels[59] + 1) % 3
    variants = [
        images,
        replace(images, pixels=pixels),
        replace(images, labels=labels),
        replace(images, pixels=images.pixels.reshape(60, 1, 1, 4)),
        replace(images, member=np.zeros(60, bool)),
        replace(images, member=np.arange(60) == 59),
        replace(images, classes=("c0", "c1", "other")),
        replace(images, classes=("c0", "c1", "c2", "c3")),
    ]
    assert len({variant.sha256() for variant in variants}) == len(variants)
    assert replace(images, name="elsewhere").sha256() == images.sha256()

    splits = split(images, seed=0)
    assert len(splits.sha256()) == 64
    swapped = replace(splits, members=splits.held_out, held_out=splits.members)
    relabelled = replace(splits, labels=labels)
    other_data = replace(splits, images=variants[1])
    assert len({s.sha256() for s in (splits, swapped, relabelled, other_data)}) == 4
