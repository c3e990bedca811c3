"""Changed copies of images against loops over pixels."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.attacks import queries
from mobileprune.attacks.queries import (
    INPUT_STEP,
    MOVES,
    NOISE_LEVELS,
    SEED,
    VARIANTS,
    answers,
    augmented,
    nearby,
    noise_level,
    noisy,
    streams,
)
from mobileprune.errors import DataError, UsageError
from mobileprune.lazy import Lazy

SHAPES = [(3, 3, 8, 8), (1, 1, 28, 28), (2, 1, 5, 7), (0, 3, 8, 8), (2, 3, 1, 1), (1, 2, 1, 4)]


def images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def slowly_moved(image: np.ndarray, flip: bool, down: int, right: int, degrees: float) -> np.ndarray:
    """One plane (H, W), pixel by pixel: where does it come from, and what lies there between the pixels?"""
    height, width = image.shape
    source = [[float(image[i, width - 1 - j if flip else j]) / 255 for j in range(width)] for i in range(height)]
    middle_i, middle_j, turn = (height - 1) / 2, (width - 1) / 2, math.radians(degrees)
    moved = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i - down - middle_i, j - right - middle_j
            from_i = min(max(math.cos(turn) * y + math.sin(turn) * x + middle_i, 0), height - 1)
            from_j = min(max(-math.sin(turn) * y + math.cos(turn) * x + middle_j, 0), width - 1)
            above, left = math.floor(from_i), math.floor(from_j)
            for a, weight_a in ((above, 1 - from_i + above), (above + 1, from_i - above)):
                for b, weight_b in ((left, 1 - from_j + left), (left + 1, from_j - left)):
                    if weight_a and weight_b:
                        moved[i, j] += weight_a * weight_b * source[min(a, height - 1)][min(b, width - 1)]
    return moved


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", VARIANTS)
def test_copies_are_images_and_fewer_are_the_first_of_more(name: str, shape: tuple[int, ...]) -> None:
    pixels = images(shape)
    before = pixels.copy()
    many, few = list(VARIANTS[name](pixels, streams(name, 12, 5))), list(VARIANTS[name](pixels, streams(name, 4, 5)))
    assert (len(many), len(few)) == (12, 4)
    for copy in many:
        assert copy.shape == shape
        assert copy.dtype == np.float32
        assert copy.flags.c_contiguous
        assert np.all((copy >= 0) & (copy <= 1))
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(pixels, before)
    assert list(VARIANTS[name](pixels, streams(name, 0, 5))) == []


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    index=st.integers(0, len(MOVES) - 1),
)
def test_augmented_copies_are_what_a_loop_over_pixels_gives(shape: tuple[int, ...], index: int) -> None:
    pixels = images(shape, index)
    copy = next(islice(augmented(pixels, streams("augmented", len(MOVES), 0)), index, None))
    slow = np.array([[slowly_moved(plane, *MOVES[index]) for plane in image] for image in pixels]).reshape(shape)
    np.testing.assert_allclose(copy, slow, atol=2e-6)


def test_the_image_comes_first_then_its_mirror_image_then_the_smallest_moves() -> None:
    pixels = images((2, 3, 8, 8))
    first, second = augmented(pixels, streams("augmented", 2, 0))
    np.testing.assert_array_equal(first, pixels.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(second, first[..., ::-1])
    assert len(set(MOVES)) == len(MOVES) == 66
    unit = {(False, 1, 0, 0.0), (False, -1, 0, 0.0), (False, 0, 1, 0.0), (False, 0, -1, 0.0)}
    assert set(MOVES[2:6]) == unit
    assert [move[3] for move in MOVES[6:8]] == [4.0, -4.0]
    for flipped, moves in ((False, MOVES[2:34]), (True, MOVES[34:])):
        shifts = {(i, j) for i in range(-2, 3) for j in range(-2, 3)} - {(0, 0)}
        turns = {(sign * degrees) for sign in (1.0, -1.0) for degrees in (4, 8, 12, 16)}
        expected = {(flipped, *shift, 0.0) for shift in shifts} | {(flipped, 0, 0, turn) for turn in turns}
        assert set(moves) == expected
        sizes = [abs(down) + abs(right) + abs(degrees) / 4 for _, down, right, degrees in moves]
        assert sizes == sorted(sizes)


def test_white_stays_white() -> None:
    white = np.full((1, 1, 28, 28), 255, np.uint8)
    for copy in augmented(white, streams("augmented", len(MOVES), 0)):
        assert copy.max() == 1
        np.testing.assert_allclose(copy, 1, atol=1e-6)


def test_what_is_changed_by_chance_follows_the_seed_alone() -> None:
    pixels = images((4, 1, 8, 8))
    for name in ("noisy", "nearby"):
        one, same, other = (np.stack(list(VARIANTS[name](pixels, streams(name, 3, seed)))) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)
        assert not np.array_equal(one[0], one[1])
    copies = (augmented(pixels, streams("augmented", 5, seed)) for seed in (1, 2))
    for one, other in zip(*copies, strict=True):
        np.testing.assert_array_equal(one, other)


def test_noise_has_the_stated_levels_again_and_again() -> None:
    grey = np.full((50, 1, 20, 20), 128, np.uint8)
    copies = list(noisy(grey, streams("noisy", 2 * len(NOISE_LEVELS), 0)))
    for index, copy in enumerate(copies):
        assert noise_level(index) == NOISE_LEVELS[index % len(NOISE_LEVELS)]
        # 20,000 draws: the spread is known to 0.5 %; at 0.2 the clipping at 2.5 deviations takes 1 % more.
        assert np.std(copy - 128 / 255) == pytest.approx(noise_level(index), rel=0.04)
    assert list(NOISE_LEVELS) == sorted(NOISE_LEVELS)


def test_nearby_copies_stay_within_one_step_and_reach_the_next_int8_value() -> None:
    grey = np.full((20, 3, 10, 10), 100, np.uint8)
    for copy in nearby(grey, streams("nearby", 3, 0)):
        change = copy - np.float32(100) / np.float32(255)
        assert np.abs(change).max() <= INPUT_STEP * (1 + 1e-5)
        assert abs(change.mean()) < INPUT_STEP * 0.03
        assert np.std(change) == pytest.approx(INPUT_STEP / math.sqrt(3), rel=0.03)
        assert (np.round(copy * 255) != 100).mean() == pytest.approx(0.5, abs=0.05)
    wide = next(nearby(grey, streams("nearby", 1, 0), epsilon=0.1))
    assert np.abs(wide - 100 / 255).max() == pytest.approx(0.1, rel=0.01)


def test_bad_requests_are_refused() -> None:
    pixels = images((1, 1, 4, 4))
    with pytest.raises(UsageError, match="there are 66 augmented copies of an image, got 67"):
        next(augmented(pixels, streams("augmented", 67, 0)))
    with pytest.raises(UsageError, match="at least one step of the input, 1/255"):
        next(nearby(pixels, streams("nearby", 1, 0), epsilon=1e-3))
    for bad in (pixels[0], pixels.astype(np.float32)):
        for name, maker in VARIANTS.items():
            with pytest.raises(DataError, match="uint8 of shape"):
                next(maker(bad, streams(name, 1, 0)))


@pytest.mark.parametrize("name", VARIANTS)
def test_answers_are_those_on_each_copy(name: str) -> None:
    pixels, weights = images((3, 1, 4, 4)), np.random.default_rng(0).normal(0, 1, (16, 5)).astype(np.float32)
    found = answers(lambda x: x.reshape(len(x), 16) @ weights, name, pixels, 4)
    assert found.dtype == np.float64
    assert found.shape == (4, 3, 5)
    for copy, logits in zip(VARIANTS[name](pixels, streams(name, 4, SEED)), found, strict=True):
        np.testing.assert_array_equal(logits, (copy.reshape(3, 16) @ weights).astype(np.float64))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize(("room", "sizes"), [(8, [8, 8, 7]), (11, [8, 8, 7]), (3, [4, 4, 4, 4, 4, 3])])
def test_some_images_at_a_time_are_asked_about_the_copies_of_all(
    name: str, lazy: bool, room: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many whole batches of 4 as there is room for, and one at least."""
    pixels, asked = images((23, 2, 3, 5)), []
    monkeypatch.setattr(queries, "BATCH", 4)
    monkeypatch.setattr(queries, "CHUNK_BYTES", room * 2 * 3 * 5 * 4)
    given = Lazy(np.arange(23), pixels.__getitem__, (2, 3, 5)) if lazy else pixels
    found = answers(lambda x: asked.append(len(x)) or x.sum((2, 3)), name, given, 3)
    assert asked == [size for size in sizes for _ in range(3)]
    whole = [copy.sum((2, 3)) for copy in VARIANTS[name](pixels, streams(name, 3, SEED))]
    np.testing.assert_array_equal(found, np.stack(whole, dtype=np.float64))


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_have_answers_too(count: int) -> None:
    assert answers(lambda x: x.sum((2, 3)), "noisy", images((count, 2, 3, 3)), 5).shape == (5, count, 2)
