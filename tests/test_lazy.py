"""What stands for an array gives what the array gives."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileprune.lazy import Lazy, joined, slices

IMAGE = (2, 3, 1)


def pixels(count: int) -> np.ndarray:
    return np.arange(count * 6, dtype=np.int64).reshape(count, *IMAGE)


def lazy(array: np.ndarray, rows: list[int]) -> Lazy:
    return Lazy(np.array(rows, np.int64), array.__getitem__, IMAGE)


@given(st.lists(st.integers(0, 8), max_size=9), st.slices(9), st.lists(st.integers(0, 8), max_size=5))
def test_slices_and_rows_are_those_of_the_array(rows: list[int], part: slice, picked: list[int]) -> None:
    array, one = pixels(9)[rows], lazy(pixels(9), rows)
    assert (one.shape, len(one)) == (array.shape, len(array))
    np.testing.assert_array_equal(one[part], array[part])
    inside = np.array([i for i in picked if i < len(rows)], np.int64)
    np.testing.assert_array_equal(one[inside], array[inside])


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 12), st.booleans())
def test_what_is_joined_is_one_after_the_other(first: int, second: int, size: int, both: bool) -> None:
    a, b = pixels(first), pixels(second) + 1000
    one, array = joined(lazy(a, [*range(first)]) if both else a, b), np.concatenate([a, b])
    assert one.shape == array.shape
    np.testing.assert_array_equal(np.concatenate([one[part] for part in slices(len(one), size)]), array)


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 9])
def test_slices_cut_a_range_and_there_is_always_one(count: int, size: int) -> None:
    found = [list(range(count))[part] for part in slices(count, size)]
    assert [*chain(*found)] == list(range(count))
    assert [len(part) for part in found[:-1]] == [size] * (len(found) - 1)
    assert len(found) == max(1, -(-count // size))
