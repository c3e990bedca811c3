"""Parity of logits: what passes, what does not, and the numbers that are reported."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from mobileprune.errors import ParityError
from mobileprune.export.parity import parity
from mobileprune.schemas import problems

SOURCE = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, -1.0]])


def test_equal_outputs_are_reported_as_such() -> None:
    assert parity(SOURCE.copy(), SOURCE, atol=0.0) == {
        "inputs": 2,
        "unstable": 0,
        "max_difference": 0.0,
        "mean_difference": 0.0,
        "top1_agreement": 1.0,
        "atol": 0.0,
    }


def test_differences_are_measured_on_all_entries() -> None:
    exported = SOURCE + np.array([[0.0, 0.0, 0.0], [-0.25, 0.5, 0.0]])
    result = parity(exported, SOURCE, atol=0.5)
    assert (result["max_difference"], result["mean_difference"]) == (0.5, 0.125)
    assert problems(result, "parity") == []


def test_agreement_is_the_share_of_equal_winners() -> None:
    exported = SOURCE[:, [0, 2, 1]]
    assert parity(exported, SOURCE, atol=9)["top1_agreement"] == 0.5


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("difference", "passes"), [(0.5, True), (np.nextafter(0.5, 1), False), (np.inf, False)])
def test_the_tolerance_is_inclusive(sign: int, difference: float, passes: bool) -> None:
    source, exported = np.zeros((2, 3)), np.zeros((2, 3))
    exported[1, 2] = sign * difference
    if passes:
        assert parity(exported, source, atol=0.5)["max_difference"] == difference
    else:
        with pytest.raises(ParityError, match=r"more than --atol 0\.5"):
            parity(exported, source, atol=0.5)


@pytest.mark.parametrize("which", [0, 1])
def test_nan_never_passes(which: int) -> None:
    both = [SOURCE.copy(), SOURCE.copy()]
    both[which][0, 0] = np.nan
    with pytest.raises(ParityError, match="nan"):
        parity(*both, atol=1e9)
    with pytest.raises(ParityError):
        parity(both[which], both[which], atol=1e9)


@pytest.mark.parametrize("atol", [0.0, np.nan, -1.0])
def test_no_tolerance_lets_a_difference_pass(atol: float) -> None:
    with pytest.raises(ParityError):
        parity(SOURCE + 1e-12, SOURCE, atol=atol)


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (3,), (2, 3, 1), (0, 3)])
def test_other_shapes_are_refused_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"outputs of shape .*, the source \(2, 3\)"):
        parity(np.zeros(shape), SOURCE, atol=1e9)


def test_no_inputs_give_an_error_or_a_valid_record() -> None:
    with suppress(ParityError):
        assert problems(parity(np.zeros((0, 3)), np.zeros((0, 3)), atol=1e-4), "parity") == []
