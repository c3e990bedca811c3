"""What an artifact costs on a device, beside a baseline: times where they mean something, instructions where not."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from mobileprune.artifact import Artifact
from mobileprune.bench.operators import NodeTime, by_operator, node_times
from mobileprune.bench.size import Size, artifact_size
from mobileprune.bench.timing import Ratio, Timing, paired_ratio, timing_of
from mobileprune.bench.validity import Check, checks
from mobileprune.devices.job import Answer, Job, Model
from mobileprune.devices.session import Device, DeviceSession
from mobileprune.errors import DeviceError, UsageError
from mobileprune.runtimes.base import normalised
from mobileprune.runtimes.device import check_file, device_facts, device_kernels, model_of

WARMUP_SECS = 10.0
"""At most this long, beside the runs that are asked for, until run times settle."""


@dataclass(frozen=True)
class Minute:
    """Of a sustained run; ``share`` of the first minute's speed."""

    minute: int
    runs: int
    p50_ms: float
    share: float
    frequency_khz: int | None


@dataclass(frozen=True)
class DeviceCosts:
    """Of one file: times and memory are None on an emulated device, ``instructions`` of one inference on a real one."""

    size: Size
    latency: Timing | None = None
    load_ms: float | None = None
    first_run_ms: float | None = None
    peak_memory_bytes: int | None = None
    added_memory_bytes: int | None = None
    instructions: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, units in the names."""
        value = asdict(self)
        size = value.pop("size")
        del value["latency"]
        timing = self.latency.to_dict() if self.latency else dict.fromkeys(("latency_ms", "runs", "blocks"))
        return {**value, **size, **timing}


@dataclass(frozen=True)
class DeviceBench:
    """``speedup`` and ``fewer_instructions``: baseline / artifact, above 1 where the artifact takes less.

    ``valid``: no check failed; ``profile``: the artifact's nodes by the runtime's own clock; ``sustained``: by minute.
    """

    device: dict[str, Any]
    artifact: DeviceCosts
    baseline: DeviceCosts | None
    speedup: Ratio | None
    fewer_instructions: float | None
    kernels: str
    num_threads: int
    cpus: str
    checks: tuple[Check, ...]
    profile: tuple[NodeTime, ...]
    sustained: tuple[Minute, ...]

    @property
    def valid(self) -> bool:
        return all(check.ok is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, units in the names."""
        costs = {"artifact": self.artifact.to_dict(), "baseline": self.baseline and self.baseline.to_dict()}
        lists = {name: [asdict(each) for each in getattr(self, name)] for name in ("checks", "profile", "sustained")}
        return asdict(self) | costs | lists | {"operators": by_operator([*self.profile]), "valid": self.valid}


@dataclass(frozen=True)
class DeviceEffort:
    """How long and how often, as :func:`mobileprune.bench.bench`; ``sustained_mins`` more of the artifact alone."""

    num_threads: int = 1
    cpus: str = ""
    warmup_runs: int = 10
    min_runs: int = 50
    min_secs: float = 0.5
    sustained_mins: float = 0.0
    profile: bool = False


def bench_device(artifact: Artifact, baseline: Artifact | None, device: Device, **effort: Any) -> DeviceBench:
    """:func:`bench_on_device` on a device as the user names it; ``effort``: fields of :class:`DeviceEffort`."""
    with device.session() as session:
        return bench_on_device(artifact, baseline, session, DeviceEffort(cpus=device.cpus, **effort))


def bench_on_device(
    artifact: Artifact, baseline: Artifact | None, session: DeviceSession, effort: DeviceEffort | None = None
) -> DeviceBench:
    """Measure ``artifact`` on one seeded noise image (1, C, H, W), in turn with ``baseline`` if there is one.

    Raises UsageError for what an emulated device cannot tell and for a baseline of another input shape,
    TargetUnavailableError for a target that devices do not run, DeviceError where the device fails.
    """
    effort = effort or DeviceEffort()
    if baseline and baseline.manifest.input_shape != artifact.manifest.input_shape:
        raise UsageError(
            f"--baseline {baseline.path}: takes images of shape {baseline.manifest.input_shape}, the artifact of "
            f"{artifact.manifest.input_shape}; on a device both are timed on the same image"
        )
    for each in filter(None, (artifact, baseline)):
        check_file(each)
    return (_counted if session.transport.emulated else _timed)(artifact, baseline, session, effort)


def _job(
    artifact: Artifact, baseline: Artifact | None, session: DeviceSession, effort: DeviceEffort
) -> tuple[Job, str]:
    """Without any timing; and the sentence on kernels."""
    platform = session.transport.platform
    kernels, library = device_kernels(artifact, platform)
    if baseline and not library:
        library = device_kernels(baseline, platform)[1]
    x = np.random.default_rng(0).random((1, *artifact.manifest.input_shape), dtype=np.float32)
    other: Model | None = model_of(baseline) if baseline else None
    job = Job(
        model_of(artifact),
        normalised(x, artifact.manifest),
        other,
        library,
        artifact.manifest.num_classes,
        effort.num_threads,
        cpus=effort.cpus,
    )
    return job, kernels.sentence if kernels else ""


def _timed(artifact: Artifact, baseline: Artifact | None, session: DeviceSession, effort: DeviceEffort) -> DeviceBench:
    job, kernels = _job(artifact, baseline, session, effort)
    job = replace(
        job,
        runs=effort.min_runs,
        warmup=effort.warmup_runs,
        secs=effort.min_secs,
        warmup_secs=WARMUP_SECS,
        sustained_secs=60 * effort.sustained_mins,
        profile=effort.profile,
    )
    answer = session.run(job)
    timings = answer.result.timings
    if timings is None or (timings.baseline is None) != (baseline is None):
        raise DeviceError(
            f"{session.transport.name}: truncated result: the runner timed something else than it was asked"
        )
    costs = _costs(artifact, answer, timings.model)
    other, ratio = None, None
    if baseline and job.baseline and timings.baseline:
        alone = session.run(replace(_job(baseline, None, session, effort)[0], batch=1))  # its own memory and load time
        other, ratio = _costs(baseline, alone, timings.baseline), paired_ratio(timings.baseline, timings.model)
    profile = [content for name, content in answer.profiles.items() if name.startswith("profile-model")]
    return DeviceBench(
        device=device_facts(session, answer),
        artifact=costs,
        baseline=other,
        speedup=ratio,
        fewer_instructions=None,
        kernels=kernels,
        num_threads=effort.num_threads,
        cpus=effort.cpus,
        checks=checks(timings),
        profile=tuple(node for content in profile for node in node_times(content)),
        sustained=tuple(_minutes(timings.sustained)),
    )


def _counted(
    artifact: Artifact, baseline: Artifact | None, session: DeviceSession, effort: DeviceEffort
) -> DeviceBench:
    name = session.transport.name
    if effort.num_threads != 1:
        raise UsageError(f"{name} is emulated: threads that wait would be counted as work; give --num-threads 1")
    if effort.sustained_mins or effort.profile:
        raise UsageError(f"{name} is emulated, where times mean nothing: leave out --sustained and --profile")
    job, kernels = _job(artifact, baseline, session, effort)
    job = replace(job, warmup=1)  # scratch memory is made in the first run
    counts = session.count(job)
    answer = session.run(replace(job, baseline=None))  # tells what the device is
    return DeviceBench(
        device=device_facts(session, answer),
        artifact=DeviceCosts(artifact_size(artifact), instructions=counts[0]),
        baseline=DeviceCosts(artifact_size(baseline), instructions=counts[1]) if baseline else None,
        speedup=None,
        fewer_instructions=counts[1] / counts[0] if baseline else None,
        kernels=kernels,
        num_threads=1,
        cpus=effort.cpus,
        checks=(),
        profile=(),
        sustained=(),
    )


def _costs(artifact: Artifact, answer: Answer, blocks: list[list[float]]) -> DeviceCosts:
    found = answer.result
    known = found.peak_memory_bytes is not None and found.memory_before_bytes is not None
    added = max(0, (found.peak_memory_bytes or 0) - (found.memory_before_bytes or 0)) if known else None
    return DeviceCosts(
        size=artifact_size(artifact),
        latency=timing_of(blocks),
        load_ms=found.load_ms,
        first_run_ms=found.first_run_ms,
        peak_memory_bytes=found.peak_memory_bytes,
        added_memory_bytes=added,
    )


def _minutes(intervals: list[dict[str, Any]]) -> list[Minute]:
    """Of each minute the runs and the median of its intervals' medians, weighted by nothing: they are equally long."""
    found: list[Minute] = []
    for minute, group in groupby(intervals, key=lambda interval: math.floor(interval["at_secs"] / 60)):
        parts = list(group)
        p50 = float(np.median([part["p50_ms"] for part in parts]))
        rates = [part["frequency_khz"] for part in parts if part["frequency_khz"] is not None]
        first = found[0].p50_ms if found else p50
        runs = sum(part["runs"] for part in parts)
        found.append(
            Minute(minute + 1, runs, p50, first / p50 if p50 else 1.0, int(np.median(rates)) if rates else None)
        )
    return found
