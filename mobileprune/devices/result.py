"""What the runner says of a run: ``result.json``, which comes from a device and is not believed before it is checked.

Its schema is ``#/$defs/runner_result`` in schemas.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileprune.errors import DeviceError
from mobileprune.schemas import parse, problems

MAX_RESULT_BYTES = 128 * 2**20
Blocks = list[list[float]]


@dataclass(frozen=True)
class Timings:
    """Run times in seconds, in blocks that were taken in turn; ``before`` and ``after``: what the system told then.

    ``sustained``: intervals of a long run. ``warmup_variation``: standard deviation / mean of the last blocks' medians
    before the timing; None without a warm-up.
    """

    model: Blocks
    baseline: Blocks | None
    warmup_blocks: int
    warmup_variation: float | None
    stable: bool
    measured_secs: float
    before: dict[str, Any]
    after: dict[str, Any]
    sustained: list[dict[str, Any]]


@dataclass(frozen=True)
class RunResult:
    """``memory_before_bytes``: the peak before the model was loaded, with the runtime in memory; None: not told."""

    runtime: str
    operators: bool
    output_shape: tuple[int, int]
    output_bytes: int
    output_sha256: str
    load_ms: float
    first_run_ms: float
    memory_before_bytes: int | None
    peak_memory_bytes: int | None
    timings: Timings | None
    profiles: tuple[str, ...]
    machine: dict[str, Any]


def read_result(path: Path, where: str, sha256: str) -> RunResult:
    """DeviceError unless the file ``path`` is a whole result of a run of the model ``sha256``."""
    size = path.stat().st_size
    if size > MAX_RESULT_BYTES:
        raise DeviceError(
            f"{where}: its result has {size:,} bytes, more than the {MAX_RESULT_BYTES:,} that one can have"
        )
    try:
        value = parse(path.read_bytes())
        wrong = problems(value, "runner_result")
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"{where}: truncated or damaged result ({str(error)[:120]}); try again") from error
    if wrong:
        raise DeviceError(f"{where}: its result is not one of this version's runner: {'; '.join(wrong)}")
    if value["model_sha256"] != sha256:
        raise DeviceError(f"{where}: its result is of another model ({value['model_sha256'][:12]}…)")
    outputs = value["outputs"]
    return RunResult(
        runtime=value["runtime"],
        operators=value["operators"],
        output_shape=(int(outputs["shape"][0]), int(outputs["shape"][1])),
        output_bytes=int(outputs["bytes"]),
        output_sha256=outputs["sha256"],
        load_ms=float(value["load_ms"]),
        first_run_ms=float(value["first_run_ms"]),
        memory_before_bytes=value["memory_before_bytes"],
        peak_memory_bytes=value["peak_memory_bytes"],
        timings=_timings(value["timing"], where) if value["timing"] else None,
        profiles=tuple(value["profiles"]),
        machine=value["machine"],
    )


def _timings(value: dict[str, Any], where: str) -> Timings:
    model = _blocks(value["model_ns"], where)
    baseline = _blocks(value["baseline_ns"], where) if "baseline_ns" in value else None
    if baseline is not None and len(baseline) != len(model):
        raise DeviceError(f"{where}: its result has {len(model)} and {len(baseline)} blocks, which are taken in turn")
    names = ("warmup_blocks", "warmup_variation", "stable", "measured_secs", "before", "after", "sustained")
    return Timings(model, baseline, **{name: value[name] for name in names})


def _blocks(value: list[Any], where: str) -> Blocks:
    """Nanoseconds to seconds. A schema's validator would take minutes for a million of them."""
    whole = all(isinstance(block, list) and block and all(type(t) is int and t > 0 for t in block) for block in value)
    if not whole:
        raise DeviceError(f"{where}: its result has run times that are no positive whole numbers of nanoseconds")
    return [[1e-9 * t for t in block] for block in value]
