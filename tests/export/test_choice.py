"""The smallest form with the same answers is kept; what changes the answers never is."""

from __future__ import annotations

import numpy as np
import pytest

from mobileprune.errors import MobilepruneError
from mobileprune.export.choice import SCALES, choose, noise

SIZES = {"dense": b"12345678", "coo": b"1234", "packed": b"12"}


def constant(content: bytes) -> int:
    return 0


def test_the_smallest_is_taken_and_of_equals_the_first() -> None:
    assert choose(SIZES, "auto", constant) == (
        "packed",
        "the smallest of dense, coo, packed with bit-identical answers",
    )
    assert choose({"dense": b"1", "coo": b"1"}, "auto", constant)[0] == "dense"


def test_a_form_with_other_answers_is_left_out_and_named() -> None:
    chosen, why = choose(SIZES, "auto", lambda content: len(content) < 3, ["not sparse: no"])
    assert chosen == "coo"
    assert why.endswith("dense, coo with bit-identical answers; not packed: its answers differ; not sparse: no")


def test_a_form_that_is_asked_for_is_taken_unless_its_answers_differ() -> None:
    assert choose(SIZES, "coo", constant) == ("coo", "asked for")
    assert choose(SIZES, "dense", len) == ("dense", "asked for")
    with pytest.raises(MobilepruneError, match="--sparse-format coo changes what the file computes"):
        choose(SIZES, "coo", len)


def test_the_noise_is_always_the_same_and_of_several_sizes() -> None:
    first = noise((3, 8, 8))
    assert first.shape == (len(SCALES), 3, 8, 8)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, noise((3, 8, 8)))
    np.testing.assert_allclose(first.reshape(4, -1).std(1), SCALES, rtol=0.2)
