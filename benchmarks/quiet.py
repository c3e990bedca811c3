"""Two subjects against each other while the rest of the machine is quiet.

Blocks alternate, A B A B; a pair of neighbouring blocks counts only if other processes used less than a tenth of a core
during each. Times are medians of block medians, the ratio is the median over pairs with its bootstrap interval
(:mod:`mobileprune.bench.timing`). A subject may be another process: what it uses is not another's load.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from mobileprune.bench.load import Clock, other_cpu_secs
from mobileprune.bench.timing import Ratio, paired_ratio

Subject = Callable[[float], tuple[list[float], float]]
"""Runs for about so many seconds -> seconds of each run, and the CPU seconds that it used in a process of its own."""
ROUNDS, BLOCK_SECS, BUDGET_SECS = 7, 0.15, 30.0
MAX_OTHER_LOAD = 0.1  # cores
MIN_RUNS = 3
PAUSE_SECS = 0.1
TICK_SECS = 0.01  # of the accounting: below it nothing is known


@dataclass(frozen=True)
class Compared:
    """``ratio``: baseline / candidate. ``left_out``: pairs that others disturbed; ``quiet``: whether the rest are
    enough, else the quietest ones are used and ``other_load`` (cores, the largest) tells how bad it was."""

    baseline_ms: float
    candidate_ms: float
    ratio: Ratio
    pairs: int
    left_out: int
    quiet: bool
    other_load: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def in_process(run: Callable[[], object], clock: Clock = time.perf_counter) -> Subject:
    """The first run of a block is not counted: the other side has emptied its caches."""

    def subject(secs: float) -> tuple[list[float], float]:
        run()
        times: list[float] = []
        while len(times) < MIN_RUNS or sum(times) < secs:
            start = clock()
            run()
            times.append(clock() - start)
        return times, 0.0

    return subject


def compare(
    baseline: Subject,
    candidate: Subject,
    *,
    rounds: int = ROUNDS,
    block_secs: float = BLOCK_SECS,
    budget_secs: float = BUDGET_SECS,
    clock: Clock = time.perf_counter,
    other_cpu: Callable[[], float | None] = other_cpu_secs,
    sleep: Callable[[float], object] = time.sleep,
) -> Compared:
    """Until there are ``rounds`` quiet pairs, or ``budget_secs`` are over and there are ``rounds`` pairs at all."""
    for subject in (baseline, candidate):
        subject(block_secs / 3)
    pairs: list[tuple[float, list[float], list[float]]] = []
    started = clock()
    while sum(load <= MAX_OTHER_LOAD for load, *_ in pairs) < rounds:
        if clock() - started > budget_secs and len(pairs) >= rounds:
            break
        (a, first), (b, second) = (_block(s, block_secs, clock, other_cpu) for s in (baseline, candidate))
        pairs.append((max(first, second), a, b))
        if pairs[-1][0] > MAX_OTHER_LOAD:
            sleep(PAUSE_SECS)
    used = sorted(pairs, key=lambda pair: pair[0])[:rounds]
    before, after = [a for _, a, _ in used], [b for _, _, b in used]
    return Compared(
        1e3 * median(map(median, before)),
        1e3 * median(map(median, after)),
        paired_ratio(before, after),
        len(used),
        len(pairs) - len(used),
        used[-1][0] <= MAX_OTHER_LOAD,
        used[-1][0],
    )


def _block(
    subject: Subject, secs: float, clock: Clock, other_cpu: Callable[[], float | None]
) -> tuple[list[float], float]:
    """Times, and the load in cores that others put on the machine meanwhile; 0 where that is not known."""
    before, start = other_cpu(), clock()
    times, elsewhere = subject(secs)
    after, took = other_cpu(), clock() - start
    if before is None or after is None:
        return times, 0.0
    return times, max(0.0, after - before - elsewhere - TICK_SECS) / took
