"""Axes: where values come to lie, and ticks that are round, few and on the axis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileprune.report.axes import MOST_TICKS, Axis

spans = st.tuples(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))


@given(spans)
def test_linear_ticks_are_round_and_few(span: tuple[float, float]) -> None:
    low, high = span[0], span[0] + span[1]
    if high - low < 1e-6:
        return
    ticks = Axis(low, high, 100.0, "x").ticks()
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    places = [at for at, _ in ticks]
    assert places == sorted(places)
    assert all(0 <= at <= 100 for at in places)


@given(st.floats(1e-6, 1e6), st.floats(1.0001, 1e9))
def test_log_ticks_are_on_the_axis(low: float, times: float) -> None:
    axis = Axis(low, low * times, 300.0, "x", log=True)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 2 * MOST_TICKS
    for at, text in ticks:
        value = float(text.replace(",", ""))
        where = 300 * math.log(value / low) / math.log(times)
        assert at == pytest.approx(min(max(where, 0), 300), abs=0.06)


@pytest.mark.parametrize(
    ("axis", "texts"),
    [
        (Axis(0, 1, 10, "", percent=True), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        (Axis(-10.7, 2.3, 10, ""), ["-10", "-5", "0"]),
        (Axis(1000, 9000, 10, ""), ["2,000", "4,000", "6,000", "8,000"]),
        (Axis(0.001, 1, 10, "", log=True), ["0.001", "0.01", "0.1", "1"]),
        (Axis(0.3, 30, 10, "", log=True), ["0.5", "1", "2", "5", "10", "20"]),
        (Axis(0.021, 0.026, 10, "", log=True), ["0.021", "0.022", "0.023", "0.024", "0.025", "0.026"]),
    ],
    ids=str,
)
def test_ticks_that_a_person_would_choose(axis: Axis, texts: list[str]) -> None:
    assert [text for _, text in axis.ticks()] == texts


def test_what_lies_outside_is_put_on_the_edge() -> None:
    axis = Axis(1, 2, 50, "")
    assert (axis.at(0), axis.at(1.5), axis.at(9)) == (0, 25, 50)
