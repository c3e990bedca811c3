"""What a device says of a run is taken when it is whole, and refused as a DeviceError in every other form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobileprune import schemas
from mobileprune.devices import result
from mobileprune.devices.result import read_result
from mobileprune.errors import DeviceError

SHA256 = "ab" * 32
VITALS = {"frequency_khz": None, "temperature_millicelsius": 41000, "throttles": 0, "other_cpu_secs": 1.5}
INTERVAL = {"at_secs": 0.0, "runs": 9, "p50_ms": 1.0, "p90_ms": 1.5, "frequency_khz": 1_800_000}
TIMING = {
    "model_ns": [[2_000_000, 1_000_000, 3_000_000]] * 5,
    "baseline_ns": [[4_000_000]] * 5,
    "warmup_blocks": 6,
    "warmup_variation": 0.01,
    "stable": True,
    "measured_secs": 1.25,
    "before": VITALS,
    "after": VITALS,
    "sustained": [INTERVAL],
}
WHOLE: dict[str, Any] = {
    "schema": "mobileprune.runner/1",
    "model_sha256": SHA256,
    "runtime": "1.32.0",
    "operators": False,
    "threads": 1,
    "outputs": {"shape": [3, 10], "bytes": 120, "sha256": "cd" * 32},
    "load_ms": 1.5,
    "first_run_ms": 2,
    "memory_before_bytes": 1000,
    "peak_memory_bytes": None,
    "timing": TIMING,
    "profiles": ["profile-model_1.json"],
    "machine": {"architecture": "aarch64", "system": "Linux", "cpu": "0xd0b", "features": "asimd", "cores": 8},
}
HOSTILE: list[Any] = [None, -1, 10**30, 1.5, True, "\n", [], {}, [[1]] * 5, [[0]] * 5, [["1"]] * 5, [[]] * 5]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every part of a JSON value, lists as far as their second element."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*at, key))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


def read(folder: Path, value: Any) -> result.RunResult:
    (folder / "result.json").write_text(json.dumps(value))
    return read_result(folder / "result.json", "null", SHA256)


def test_a_whole_result_is_taken(tmp_path: Path) -> None:
    assert schemas.problems(WHOLE, "runner_result") == []
    found = read(tmp_path, WHOLE)
    assert (found.output_shape, found.output_bytes, found.peak_memory_bytes) == ((3, 10), 120, None)
    assert found.timings is not None
    assert found.timings.model == [[2e-3, 1e-3, 3e-3]] * 5
    assert found.timings.baseline == [[4e-3]] * 5
    assert read(tmp_path, {**WHOLE, "timing": None}).timings is None
    alone = {name: value for name, value in TIMING.items() if name != "baseline_ns"}
    alone_timings = read(tmp_path, {**WHOLE, "timing": alone}).timings
    assert alone_timings is not None
    assert alone_timings.baseline is None


@pytest.mark.parametrize("place", [*places(WHOLE)], ids=lambda place: "/".join(map(str, place)) or "all")
def test_with_any_part_replaced_it_is_refused_or_whole(tmp_path: Path, place: tuple[Any, ...]) -> None:
    """Nothing but a DeviceError comes of any value in any place; most are refused."""
    refused = 0
    for value in HOSTILE:
        try:
            read(tmp_path, replaced(WHOLE, place, value))
        except DeviceError:
            refused += 1
    assert refused >= len(HOSTILE) // 2


def test_blocks_that_were_not_taken_in_turn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="has 5 and 6 blocks"):
        read(tmp_path, {**WHOLE, "timing": {**TIMING, "baseline_ns": [[1]] * 6}})


def test_a_result_that_is_too_long_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "MAX_RESULT_BYTES", 100)
    with pytest.raises(DeviceError, match="more than the 100 that one can have"):
        read(tmp_path, WHOLE)
