"""Parity of logits: what passes, what does not, and the numbers that are reported."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from mobileprune.errors import ParityError
from mobileprune.export.parity import Tolerances, parity
from mobileprune.schemas import problems


def absolute(atol: float) -> Tolerances:
    return Tolerances(atol, rtol=0.0)


SOURCE = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, -1.0]])


def test_equal_outputs_are_reported_as_such() -> None:
    assert parity(SOURCE.copy(), SOURCE, absolute(0.0)) == {
        "inputs": 2,
        "unstable": 0,
        "max_difference": 0.0,
        "mean_difference": 0.0,
        "top1_agreement": 1.0,
        "atol": 0.0,
        "rtol": 0.0,
        "min_agreement": None,
    }


def test_differences_are_measured_on_all_entries() -> None:
    exported = SOURCE + np.array([[0.0, 0.0, 0.0], [-0.25, 0.5, 0.0]])
    result = parity(exported, SOURCE, absolute(0.5))
    assert (result["max_difference"], result["mean_difference"]) == (0.5, 0.125)
    assert problems(result, "parity") == []


def test_agreement_is_the_share_of_equal_winners() -> None:
    exported = SOURCE[:, [0, 2, 1]]
    assert parity(exported, SOURCE, absolute(9))["top1_agreement"] == 0.5


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("difference", "passes"), [(0.5, True), (np.nextafter(0.5, 1), False), (np.inf, False)])
def test_the_tolerance_is_inclusive(sign: int, difference: float, passes: bool) -> None:
    source, exported = np.zeros((2, 3)), np.zeros((2, 3))
    exported[1, 2] = sign * difference
    if passes:
        assert parity(exported, source, absolute(0.5))["max_difference"] == difference
    else:
        with pytest.raises(ParityError, match=r"more than --atol 0\.5"):
            parity(exported, source, absolute(0.5))


@pytest.mark.parametrize("which", [0, 1])
def test_nan_never_passes(which: int) -> None:
    both = [SOURCE.copy(), SOURCE.copy()]
    both[which][0, 0] = np.nan
    with pytest.raises(ParityError, match="nan"):
        parity(*both, absolute(1e9))
    with pytest.raises(ParityError):
        parity(both[which], both[which], absolute(1e9))


@pytest.mark.parametrize("atol", [0.0, np.nan, -1.0])
def test_no_tolerance_lets_a_difference_pass(atol: float) -> None:
    with pytest.raises(ParityError):
        parity(SOURCE + 1e-12, SOURCE, absolute(atol))


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (3,), (2, 3, 1), (0, 3)])
def test_other_shapes_are_refused_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=r"outputs of shape .*, the source \(2, 3\)"):
        parity(np.zeros(shape), SOURCE, absolute(1e9))


def test_no_inputs_give_an_error_or_a_valid_record() -> None:
    with suppress(ParityError):
        assert problems(parity(np.zeros((0, 3)), np.zeros((0, 3)), absolute(1e-4)), "parity") == []


def test_the_relative_part_follows_the_largest_output_of_a_row() -> None:
    source = np.array([[1000.0, 0.0], [1.0, 0.0]])
    allowed, near = Tolerances(atol=1e-4, rtol=1e-3), np.array([[0.0, 0.9], [0.0, 0.0]])
    assert parity(source + near, source, allowed)["max_difference"] == 0.9
    with pytest.raises(ParityError, match=r"--atol 0\.0001 and --rtol 0\.001"):
        parity(source + near[::-1], source, allowed)


def test_below_fp32_the_winners_have_to_agree() -> None:
    exported = SOURCE[:, [0, 2, 1]] * 5
    found = parity(exported, SOURCE, Tolerances(min_agreement=0.5))
    assert (found["top1_agreement"], found["min_agreement"], found["atol"]) == (0.5, 0.5, None)
    assert problems(found, "parity") == []
    with pytest.raises(
        ParityError, match=r"the same class for 50\.0% of 2 inputs, fewer than --min-agreement 0\.6.*a lower"
    ):
        parity(exported, SOURCE, Tolerances(min_agreement=0.6))
    exported[0, 0] = np.nan
    with pytest.raises(ParityError, match="NaN"):
        parity(exported, SOURCE, Tolerances(min_agreement=0.0))
