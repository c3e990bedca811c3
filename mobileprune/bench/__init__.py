"""Latency, load time, size and memory of an artifact, alone or against a baseline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mobileprune.bench.kernels import KernelsMeasured, compare_kernels
from mobileprune.bench.load import LoadWatch
from mobileprune.bench.machine import machine
from mobileprune.bench.memory import Memory, peak_load_memory, probe_command
from mobileprune.bench.size import Size, artifact_size, file_size
from mobileprune.bench.timing import Comparison, Ratio, Timing, interleave, measure

if TYPE_CHECKING:
    from mobileprune.artifact import Artifact

__all__ = [
    "BenchResult",
    "Comparison",
    "Costs",
    "KernelsMeasured",
    "Memory",
    "Ratio",
    "Size",
    "Timing",
    "bench",
    "file_size",
    "interleave",
    "latency",
    "machine",
    "measure",
    "peak_load_memory",
]

LOADS = 7


@dataclass(frozen=True)
class Costs:
    """What one artifact costs to run; latency is of one image."""

    latency: Timing
    load_ms: float
    size: Size
    memory: Memory

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.latency.to_dict(),
            "load_ms": self.load_ms,
            **asdict(self.size),
            "peak_memory_bytes": self.memory.peak_bytes,
            "added_memory_bytes": self.memory.added_bytes,
            "memory_note": self.memory.note,
        }


@dataclass(frozen=True)
class BenchResult:
    """``speedup`` is baseline / artifact latency (> 1: the artifact is faster); None without a baseline.

    ``kernels``: for a file with layers for the native library.
    """

    artifact: Costs
    baseline: Costs | None
    speedup: Ratio | None
    kernels: KernelsMeasured | None
    num_threads: int
    other_load_cores: float | None
    valid: bool
    note: str
    machine: dict[str, str | int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, units in the names."""
        baseline = self.baseline.to_dict() if self.baseline else None
        return asdict(self) | {"artifact": self.artifact.to_dict(), "baseline": baseline}


def bench(
    artifact: Artifact,
    baseline: Artifact | None = None,
    *,
    num_threads: int = 1,
    warmup_runs: int = 10,
    min_runs: int = 50,
    min_secs: float = 0.5,
) -> BenchResult:
    """Measure ``artifact``, interleaved with ``baseline`` if given, on one seeded noise image (1, C, H, W)."""
    from mobileprune.runtimes import kernels_used

    pairs = partial(interleave, warmup_runs=warmup_runs, min_runs=min_runs, min_secs=min_secs)
    artifacts = [artifact] if baseline is None else [artifact, baseline]
    runners = [_runner(one, num_threads) for one in artifacts]
    speedup: Ratio | None = None
    if baseline is None:
        watch = LoadWatch()
        latencies = [measure(runners[0], warmup_runs=warmup_runs, min_runs=min_runs, min_secs=min_secs)]
        load, valid, note = watch.finish()
    else:
        both = pairs(runners[1], runners[0])
        latencies, speedup = [both.candidate, both.baseline], both.ratio
        load, valid, note = both.other_load, both.valid, both.note
    del runners
    kernels = compare_kernels(
        kernels_used(artifact), lambda native: _runner(artifact, num_threads, native=native), pairs
    )
    loads_ms = _load_ms(artifacts, num_threads)
    costs = [
        Costs(latency, load_ms, artifact_size(one), peak_load_memory(probe_command(one.model_path.parent, num_threads)))
        for one, latency, load_ms in zip(artifacts, latencies, loads_ms, strict=True)
    ]
    return BenchResult(
        costs[0], costs[1] if baseline else None, speedup, kernels, num_threads, load, valid, note, machine()
    )


def latency(artifact: Artifact, baseline: Artifact, *, num_threads: int = 1, **options: Any) -> Comparison:
    """What :func:`bench` says of latency and nothing else; ``options`` of :func:`interleave`."""
    return interleave(_runner(baseline, num_threads), _runner(artifact, num_threads), **options)


def _runner(artifact: Artifact, num_threads: int, *, native: bool = True) -> Callable[[], Any]:
    """One inference of one seeded noise image (1, C, H, W)."""
    from mobileprune.runtimes import open_runtime

    runtime = open_runtime(artifact, num_threads=num_threads, native=native)
    x = np.random.default_rng(0).random((1, *artifact.manifest.input_shape), dtype=np.float32)
    return lambda: runtime.predict(x)


def _load_ms(artifacts: list[Artifact], num_threads: int) -> list[float]:
    """Median time of opening each artifact afresh, taken in turn; the libraries are imported already."""
    from mobileprune.runtimes import open_runtime

    times_ms: list[list[float]] = [[] for _ in artifacts]
    for _ in range(LOADS):
        for one, taken in zip(artifacts, times_ms, strict=True):
            start = time.perf_counter()
            open_runtime(one, num_threads=num_threads)
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times_ms]
