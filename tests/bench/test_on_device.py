"""Costs on a device: checks of timings on made-up ones, sums of profiles, and instructions where times mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.devices import Faulty, needs_runner

from mobileprune import schemas
from mobileprune.artifact import Artifact
from mobileprune.bench.on_device import DeviceEffort, _minutes, bench_on_device
from mobileprune.bench.operators import by_operator, node_times
from mobileprune.bench.validity import checks
from mobileprune.devices.result import Timings
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import DeviceError, UsageError
from mobileprune.report.device import device_bench_rows, device_sentence, device_tables

VITALS = {"frequency_khz": 2_000_000, "temperature_millicelsius": 40_000, "throttles": 3, "other_cpu_secs": 10.0}
STEADY = [[1e-3, 1.001e-3, 0.999e-3]] * 9
GOOD = Timings(STEADY, STEADY, 5, 0.01, True, 10.0, VITALS, VITALS | {"other_cpu_secs": 11.0}, [])


def verdicts(**changes: Any) -> dict[str, bool | None]:
    return {check.name: check.ok for check in checks(replace(GOOD, **changes))}


ALL_GOOD = {"warm-up": True, "variance": True, "throttling": True, "background load": True}


def test_steady_timings_of_an_idle_device_are_valid() -> None:
    assert verdicts() == ALL_GOOD
    assert verdicts(baseline=None) == ALL_GOOD


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"stable": False, "warmup_variation": 0.2}, "warm-up"),
        ({"model": [[t] * 3 for t in (1.0, 1.3) * 5]}, "variance"),
        ({"baseline": [[t] * 3 for t in (1.0, 1.3) * 5]}, "variance"),
        ({"after": VITALS | {"throttles": 4}}, "throttling"),
        ({"after": VITALS | {"frequency_khz": 1_700_000}}, "throttling"),
        ({"model": [[1.0 + 0.013 * i] * 3 for i in range(9)]}, None),
        ({"model": [[1.0 + 0.02 * i] * 3 for i in range(9)]}, "throttling"),
        ({"after": VITALS | {"other_cpu_secs": 14.0}}, "background load"),
    ],
)
def test_each_check_finds_its_own(changes: dict[str, Any], failed: str | None) -> None:
    found = {name for name, ok in verdicts(**changes).items() if ok is False}
    assert failed in found if failed else not found


def test_what_a_device_does_not_tell_is_unknown() -> None:
    silent = dict.fromkeys(VITALS)
    found = verdicts(warmup_variation=None, before=silent, after=silent)
    assert found == {"warm-up": None, "variance": True, "throttling": True, "background load": None}


def event(node: str, operator: str, dur: int, suffix: str = "_kernel_time") -> dict[str, Any]:
    return {"cat": "Node", "name": node + suffix, "dur": dur, "args": {"op_name": operator}}


def test_a_profile_is_summed_by_node_and_operator() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "dur": 999},
        *(event("a", "Conv", dur) for dur in (900, 800, 10, 20)),  # the first two are not counted
        *(event("b", "Conv", dur) for dur in (500, 600, 30, 30)),
        *(event("c", "Gemm", dur) for dur in (5,)),
        event("c", "Gemm", 700, "_fence_before"),
    ]
    nodes = node_times(json.dumps(events).encode())
    assert [(n.node, n.operator, n.runs, n.mean_us) for n in nodes] == [
        ("b", "Conv", 2, 30.0),
        ("a", "Conv", 2, 15.0),
        ("c", "Gemm", 1, 5.0),
    ]
    assert [n.share for n in nodes] == [0.6, 0.3, 0.1]
    assert by_operator(nodes) == {
        "Conv": {"nodes": 2, "mean_us": 45.0, "share": pytest.approx(0.9)},
        "Gemm": {"nodes": 1, "mean_us": 5.0, "share": 0.1},
    }


NAMELESS = b'[{"cat":"Node","name":"a_kernel_time"}]'


@pytest.mark.parametrize(
    "content", [b"", b"[", b"{}x", b"3", b"[3]", NAMELESS, b'[{"cat":"Node","name":3}]', b"[" * 10**5]
)
def test_a_damaged_profile_is_an_error(content: bytes) -> None:
    with pytest.raises(DeviceError, match="profile is damaged"):
        node_times(content)


def test_a_sustained_run_is_told_by_the_minute() -> None:
    intervals = [
        {"at_secs": 5.0 * i, "runs": 10, "p50_ms": 2.0 if i < 12 else 4.0, "p90_ms": 5.0, "frequency_khz": None}
        for i in range(24)
    ]
    found = _minutes(intervals)
    assert [(m.minute, m.runs, m.p50_ms, m.share) for m in found] == [(1, 120, 2.0, 1.0), (2, 120, 4.0, 0.5)]


class Emulated(Faulty):
    """Counts what it is told; its times would be found in a result."""

    def __init__(self) -> None:
        super().__init__(name="qemu:test", emulated=True)

    def count_instructions(self, command: Sequence[str], *, timeout_secs: float) -> list[int]:
        return [1000, 2500] if "--baseline" in command else [1000]


@pytest.fixture
def pair(artifacts: dict[str, Path]) -> tuple[Artifact, Artifact]:
    return Artifact.load(artifacts["onnx"]), Artifact.load(artifacts["ort"])


@pytest.fixture
def emulated() -> Iterator[DeviceSession]:
    device = Emulated()
    yield DeviceSession(device)
    device.close()


@needs_runner
def test_an_emulated_device_gives_instructions_and_no_time(pair: Any, emulated: DeviceSession) -> None:
    found = bench_on_device(*pair, emulated)
    assert (found.artifact.instructions, found.baseline and found.baseline.instructions) == (1000, 2500)
    assert found.fewer_instructions == 2.5
    value = found.to_dict()
    assert schemas.problems(value, "device_bench_result") == []
    timed = {"latency_ms", "load_ms", "first_run_ms", "peak_memory_bytes", "added_memory_bytes", "runs", "blocks"}
    for costs in (value["artifact"], value["baseline"]):
        assert {costs[name] for name in timed} == {None}
    assert (value["speedup"], value["profile"], value["sustained"], value["checks"]) == (None, [], [], [])
    shown = " ".join([device_sentence(value), *(cell for row in device_bench_rows(value) for cell in row)])
    assert "2,500" in shown
    assert "2.50x" in shown
    assert " ms" not in shown
    assert "latency" not in shown
    assert device_tables(value) == []
    assert bench_on_device(pair[0], None, emulated).fewer_instructions is None


@needs_runner
@pytest.mark.parametrize(
    ("effort", "says"),
    [
        (DeviceEffort(num_threads=2), "threads that wait would be counted as work"),
        (DeviceEffort(profile=True), "leave out --sustained and --profile"),
        (DeviceEffort(sustained_mins=1), "leave out --sustained and --profile"),
    ],
)
def test_what_emulation_cannot_tell_is_refused(
    pair: Any, emulated: DeviceSession, effort: DeviceEffort, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        bench_on_device(*pair, emulated, effort)


@needs_runner
def test_a_real_device_gives_times_and_a_ratio(pair: Any) -> None:
    device = Faulty()
    effort = DeviceEffort(warmup_runs=0, min_runs=5, min_secs=0.0, profile=True)
    found = bench_on_device(*pair, DeviceSession(device), effort)
    device.close()
    assert found.speedup
    assert found.speedup.low <= found.speedup.value <= found.speedup.high
    assert found.artifact.latency
    assert found.artifact.latency.p50_ms > 0
    assert found.artifact.instructions is None
    assert {check.name for check in found.checks} == {"warm-up", "variance", "throttling", "background load"}
    value = found.to_dict()
    assert schemas.problems(value, "device_bench_result") == []
    assert np.isclose(sum(part["share"] for part in value["operators"].values()), 1)
    assert {"Conv", "MaxPool"} <= {name.removeprefix("Fused") for name in value["operators"]}


@needs_runner
def test_a_baseline_of_another_shape_is_refused(pair: Any, emulated: DeviceSession) -> None:
    other = Artifact(pair[1].path, replace(pair[1].manifest, input_shape=(1, 32, 32)))
    with pytest.raises(UsageError, match="on a device both are timed on the same image"):
        bench_on_device(pair[0], other, emulated)
