"""Latency of one function, or of two against each other, on a machine that others may share.

Both sides run in one process in short alternating blocks (A B A B ...), so that drift of clock speed or temperature
meets both alike. One pair of neighbouring blocks gives one ratio

    r_i = median(baseline block i) / median(candidate block i)        (> 1: the candidate is faster)

and the reported ratio is median_i r_i, with a percentile bootstrap interval over the pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobileprune.bench.load import Clock, LoadWatch, other_cpu_secs

MIN_PAIRS = 5  # fewer give no usable interval
MIN_BLOCK_RUNS = 3  # the median then drops the first run, whose caches the other side has just emptied
RESAMPLES = 2000
QUANTILES = range(0, 101, 5)
"""Percents at which the distribution of run times is kept."""


@dataclass(frozen=True)
class Timing:
    """Percentiles and mean over all timed runs, in milliseconds; ``quantiles_ms`` at 0, 5, ..., 100 %."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    runs: int
    blocks: int
    quantiles_ms: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: ``latency_ms`` by name, ``runs`` and ``blocks``."""
        latency = {name.removesuffix("_ms"): value for name, value in vars(self).items() if name.endswith("_ms")}
        quantiles = list(self.quantiles_ms)
        return {"latency_ms": latency | {"quantiles": quantiles}, "runs": self.runs, "blocks": self.blocks}


@dataclass(frozen=True)
class Ratio:
    """Baseline time / candidate time, with its bootstrap interval."""

    value: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True)
class Comparison:
    """``other_load`` is in cores, None where it cannot be read; ``note`` says why a result is not ``valid``."""

    baseline: Timing
    candidate: Timing
    ratio: Ratio
    other_load: float | None
    valid: bool
    note: str


def interleave(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    *,
    warmup_runs: int = 10,
    min_runs: int = 50,
    min_secs: float = 0.5,
    block_secs: float = 0.05,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    other_cpu: Callable[[], float | None] = other_cpu_secs,
) -> Comparison:
    """Time both until each has ``min_runs`` runs and ``min_secs`` seconds, in at least five pairs of blocks."""
    watch = LoadWatch(clock, other_cpu)
    first, second = _blocks((baseline, candidate), warmup_runs, min_runs, min_secs, block_secs, clock)
    load, valid, note = watch.finish()
    return Comparison(timing_of(first), timing_of(second), paired_ratio(first, second, seed=seed), load, valid, note)


def measure(
    fn: Callable[[], object],
    *,
    warmup_runs: int = 10,
    min_runs: int = 50,
    min_secs: float = 0.5,
    block_secs: float = 0.05,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Time one function alone, by the rules of :func:`interleave`."""
    return timing_of(_blocks((fn,), warmup_runs, min_runs, min_secs, block_secs, clock)[0])


def paired_ratio(
    baseline: list[list[float]], candidate: list[list[float]], *, seed: int = 0, confidence: float = 0.95
) -> Ratio:
    """Median of the per-pair ratios of block medians, with its percentile bootstrap interval."""
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(baseline, candidate, strict=True)])
    picks = np.random.default_rng(seed).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.median(ratios[picks], axis=1), [tail, 100 - tail])
    return Ratio(float(np.median(ratios)), float(low), float(high), confidence)


def _blocks(
    fns: tuple[Callable[[], object], ...], warmup_runs: int, min_runs: int, min_secs: float, secs: float, clock: Clock
) -> list[list[list[float]]]:
    """For each function its blocks of run times in seconds; the blocks were taken in turn."""
    for fn in fns:
        for _ in range(warmup_runs):
            fn()
    taken: list[list[list[float]]] = [[] for _ in fns]
    while len(taken[0]) < MIN_PAIRS or any(
        sum(map(len, blocks)) < min_runs or sum(map(sum, blocks)) < min_secs for blocks in taken
    ):
        for fn, blocks in zip(fns, taken, strict=True):
            blocks.append(_block(fn, secs, clock))
    return taken


def _block(fn: Callable[[], object], secs: float, clock: Clock) -> list[float]:
    times: list[float] = []
    total = 0.0
    while len(times) < MIN_BLOCK_RUNS or total < secs:
        start = clock()
        fn()
        times.append(clock() - start)
        total += times[-1]
    return times


def timing_of(blocks: list[list[float]]) -> Timing:
    """Of run times in seconds."""
    times = 1e3 * np.concatenate([np.asarray(block) for block in blocks])
    p50, p90, p99 = (float(p) for p in np.percentile(times, [50, 90, 99]))
    quantiles = tuple(float(p) for p in np.percentile(times, QUANTILES))
    return Timing(p50, p90, p99, float(times.mean()), times.size, len(blocks), quantiles)
