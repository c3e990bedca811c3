"""Latency of a sweep's artifacts beside their baselines, one at a time and after all else has ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobileprune.artifact import Artifact
from mobileprune.bench import latency, machine
from mobileprune.files import write_json
from mobileprune.pipeline.context import Context
from mobileprune.runs import judging_digest
from mobileprune.schemas import parse

STEP, TIMED = "latency", "latency.json"


@dataclass(frozen=True)
class TimingOptions:
    """Of each side: untimed runs before, and at least so many timed ones and seconds."""

    warmup_runs: int = 10
    min_runs: int = 50
    min_secs: float = 0.5


def timed(artifact: Artifact, baseline: Artifact, timing: TimingOptions, context: Context) -> dict[str, Any]:
    """As JSON. Kept in the run store if it is valid: what a busy machine timed is timed again the next time."""
    inputs = {
        "artifact": artifact.manifest.sha256,
        "baseline": baseline.manifest.sha256,
        "machine": machine(),
        "timing": asdict(timing),
        "judging": judging_digest(),
        "num_threads": context.num_threads,
    }
    kept = context.store.place(STEP, inputs) / TIMED
    if kept.is_file():
        value: dict[str, Any] = parse(kept.read_bytes())
        return value
    found = latency(artifact, baseline, num_threads=context.num_threads, **asdict(timing))
    value = {
        "artifact_ms": found.candidate.p50_ms,
        "baseline_ms": found.baseline.p50_ms,
        "speedup": asdict(found.ratio),
        "num_threads": context.num_threads,
        "valid": found.valid,
        "note": found.note,
    }

    def keep(folder: Path, partial: Path) -> None:
        write_json(folder / TIMED, value)

    if found.valid:
        context.store.step(STEP, inputs, keep)
    return value
