"""Rice codes against a decoder that reads one bit after the other, and packed tensors against themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobileprune.convert.entropy import bound_bits
from mobileprune.convert.rice import MAX_WIDTH, Rice, decode, encode, pack, unpack

NUMBERS = st.lists(st.integers(0, 3000), max_size=60).map(lambda values: np.array(values, np.int64))
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7)
DTYPES = (np.float32, np.float16, np.int8)


def bits(stream: np.ndarray) -> list[int]:
    return [byte >> place & 1 for byte in stream.tolist() for place in range(8)]


def slow(code: Rice) -> list[int]:
    high, low = iter(bits(code.high)), iter(bits(code.low))
    found = []
    for _ in range(code.count):
        quotient = 0
        while code.unary and next(high) == 0:
            quotient += 1
        found.append((quotient << code.width) + sum(next(low) << place for place in range(code.width)))
    return found


@given(NUMBERS, st.booleans())
def test_numbers_come_back_and_a_reader_of_single_bits_agrees(numbers: np.ndarray, fixed: bool) -> None:
    code = encode(numbers, fixed=fixed)
    assert decode(code).tolist() == slow(code) == numbers.tolist()
    assert code.width >= fixed


@given(NUMBERS)
def test_no_other_width_is_shorter(numbers: np.ndarray) -> None:
    costs = [sum(v >> w for v in numbers.tolist()) + len(numbers) * (1 + w) for w in range(MAX_WIDTH + 1)]
    code = encode(numbers)
    padding = 7 * 2
    assert min(costs) <= 8 * code.num_bytes <= min(costs) + padding


@pytest.mark.parametrize("change", [{"high": 1}, {"low": 1}])
def test_streams_that_are_too_short_are_an_error(change: dict[str, int]) -> None:
    code = encode(np.arange(40, dtype=np.int64) * 3)
    short = {name: getattr(code, name)[:-size] for name, size in change.items()}
    with pytest.raises(ValueError, match=r"bytes are too few|quotients are of"):
        decode(Rice(**{**vars(code), **short}))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_tensors_come_back_bit_for_bit(dtype: type, data: st.DataObject) -> None:
    values = {"min_value": -127} if dtype == np.int8 else {"allow_nan": True}
    element = hnp.from_dtype(np.dtype(dtype), **values).map(lambda x: x + dtype(0))  # -0 is 0
    tensor = data.draw(hnp.arrays(dtype, SHAPES, elements=st.one_of(st.just(dtype(0)), element)))
    assert unpack(pack(tensor)).tobytes() == tensor.tobytes()
    assert unpack(pack(tensor)).shape == tensor.shape


def test_values_that_do_not_fit_the_shape_are_an_error() -> None:
    packed = pack(np.array([0, 1, 0, 2, 3], np.float32))
    for shape in ((4,), (2, 2), (0,)):
        with pytest.raises(ValueError, match="do not fit a tensor"):
            unpack(type(packed)(shape, packed.gaps, packed.values))
    with pytest.raises(ValueError, match="do not fit"):
        unpack(type(packed)((5,), packed.gaps, packed.values[:2]))


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.5])
def test_gaps_come_close_to_the_entropy(density: float) -> None:
    mask = np.random.default_rng(0).random(200_000) < density
    z = mask.sum()
    entropy = sum(-c * math.log2(c / mask.size) for c in (z, mask.size - z)) / 8
    gaps = pack(mask.astype(np.float32)).gaps
    assert entropy * 0.999 < gaps.num_bytes < 1.04 * entropy


def test_pruned_int8_weights_come_close_to_the_bound() -> None:
    w = np.random.default_rng(0).standard_normal((64, 64, 3, 3))
    w[np.abs(w) < np.quantile(np.abs(w), 0.9)] = 0
    q = np.rint(127 * w / np.abs(w).max((1, 2, 3), keepdims=True)).astype(np.int8)
    assert bound_bits(q) <= 8 * pack(q).num_bytes < 1.1 * bound_bits(q)


def test_the_bound_of_small_tensors_is_what_the_formula_gives() -> None:
    assert bound_bits(np.zeros(9, np.int8)) == 0
    assert bound_bits(np.array([1, 1, 1], np.int8)) == 0
    assert bound_bits(np.array([0, 0, 5, 7], np.int8)) == pytest.approx(4 + 2)
    assert bound_bits(np.array([0, 0, 1.0, 1.5], np.float32)) == pytest.approx(4 + 2 * 24)
    assert bound_bits(np.array([0, 0, 1.0, 3.0], np.float16)) == pytest.approx(4 + 2 * 11 + 2)
    assert bound_bits(np.zeros(0, np.float32)) == 0
