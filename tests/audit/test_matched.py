from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mobileprune.audit.matched import Point, at_accuracy

rate = st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9])
points = st.lists(st.builds(Point, sparsity=rate, accuracy=rate, leakage=rate), max_size=12)


@given(points=points, accuracy=rate)
def test_the_sparsest_that_is_accurate_enough(points: list[Point], accuracy: float) -> None:
    chosen, good = at_accuracy(points, accuracy), [p for p in points if p.accuracy >= accuracy]
    if chosen is None:
        assert not good
        return
    assert chosen in good
    assert all(p.sparsity <= chosen.sparsity for p in good)
    assert all(p.leakage >= chosen.leakage for p in good if p.sparsity == chosen.sparsity)
