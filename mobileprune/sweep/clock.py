"""How long the rest of a sweep takes, judged by what its tasks took so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import fmean


class Clock:
    """``kinds``: of all tasks. ``workers`` of them run at a time, but those of kind ``alone`` one by one."""

    def __init__(self, kinds: Iterable[str], alone: str, workers: int = 1) -> None:
        self.workers = workers
        self._left = Counter(kinds)
        self._alone = alone
        self._took: dict[str, list[float]] = defaultdict(list)

    def finished(self, kind: str, seconds: float | None) -> None:
        """``seconds`` None: nothing had to be computed, which says nothing of the others."""
        self._left[kind] -= 1
        if seconds is not None:
            self._took[kind].append(seconds)

    def seconds_left(self) -> float | None:
        """A kind of which nothing was computed yet is taken to take as long as the others; None before the first."""
        known = {kind: fmean(took) for kind, took in self._took.items()}
        if not known:
            return None
        others = fmean(known.values())
        expected = {kind: count * known.get(kind, others) for kind, count in self._left.items()}
        one_by_one = expected.pop(self._alone, 0.0)
        return sum(expected.values()) / self.workers + one_by_one


def in_words(seconds: float) -> str:
    """
    >>> in_words(8), in_words(100), in_words(9000)
    ('8 s', '2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
