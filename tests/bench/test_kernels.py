"""What a benchmark says about native kernels: faster, slower, not sure, or not here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mobileprune.bench.kernels import compare_kernels
from mobileprune.bench.timing import Comparison, Ratio, Timing
from mobileprune.runtimes import KernelsUsed

USED, ABSENT = KernelsUsed(True, "0" * 64, "native kernels"), KernelsUsed(False, None, "no compiler")
TIMING = Timing(1.0, 1.0, 1.0, 1.0, 1, 1, ())


def timed(low: float, high: float, *, valid: bool = True) -> Callable[..., Comparison]:
    def interleave(stock: Callable[[], Any], native: Callable[[], Any]) -> Comparison:
        assert (stock(), native()) == (False, True)
        return Comparison(
            TIMING, TIMING, Ratio((low + high) / 2, low, high), 0.0, valid, "" if valid else "others worked"
        )

    return interleave


def runner(native: bool) -> Callable[[], object]:
    return lambda: native


def never(*_: object) -> Any:
    pytest.fail("there is nothing to time")


def test_a_file_without_layers_for_the_library_has_nothing_to_say() -> None:
    assert compare_kernels(None, never, never) is None


def test_without_the_library_it_says_why_and_times_nothing() -> None:
    found = compare_kernels(ABSENT, never, never)
    assert found is not None
    assert (found.native, found.speedup) == (False, None)
    assert found.note.endswith("no compiler")


@pytest.mark.parametrize(
    ("low", "high", "valid", "words", "missing"),
    [
        (1.8, 2.2, True, "ran on native kernels", "slower"),
        (0.9, 1.1, True, "ran on native kernels", "slower"),
        (0.7, 0.9, True, "slower here: export with --kernels stock", "not valid"),
        (1.8, 2.2, False, "not valid: others worked", "slower"),
    ],
)
def test_with_it_the_ratio_is_of_the_same_file(low: float, high: float, valid: bool, words: str, missing: str) -> None:
    found = compare_kernels(USED, runner, timed(low, high, valid=valid))
    assert found is not None
    assert found.speedup is not None
    assert (found.native, found.speedup.low) == (True, low)
    assert words in found.note
    assert missing not in found.note
