"""Benchmarks against a fake clock, numpy and zlib; nothing here depends on wall time."""

import getpass
import importlib
import json
import os
import platform
import sys
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mobileprune.bench import Memory, bench, file_size, interleave, machine, measure, peak_load_memory
from mobileprune.bench.load import LoadWatch
from mobileprune.bench.timing import paired_ratio
from mobileprune.errors import MobilepruneError

bench_package = importlib.import_module("mobileprune.bench")  # mobileprune.bench is the verb


class FakeClock:
    """Time passes only inside the functions made here; their calls are recorded by name."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def __call__(self) -> float:
        return self.now

    def fn(self, name, secs):
        def call() -> None:
            self.calls.append((name, step := float(secs())))
            self.now += step

        return call


def noisy(seed, mean):
    rng = np.random.default_rng(seed)
    return lambda: mean * rng.uniform(0.5, 1.5)


def test_blocks_alternate_after_the_warm_up():
    clock = FakeClock()
    a, b = clock.fn("a", lambda: 0.25), clock.fn("b", lambda: 0.125)
    result = interleave(a, b, warmup_runs=2, min_runs=1, min_secs=0, block_secs=1, clock=clock, other_cpu=lambda: None)
    assert "".join(name for name, _ in clock.calls) == "aabb" + 5 * ("a" * 4 + "b" * 8)
    assert (result.baseline.runs, result.candidate.runs, result.baseline.blocks) == (20, 40, 5)
    assert (result.ratio.value, result.ratio.low, result.ratio.high) == (2, 2, 2)


@pytest.mark.parametrize(("min_runs", "min_secs", "runs"), [(60, 0, 60), (1, 30, 60), (61, 0, 62), (1, 0, 10)])
def test_both_minima_hold(min_runs, min_secs, runs):
    clock = FakeClock()
    timing = measure(
        clock.fn("a", lambda: 0.5), warmup_runs=0, min_runs=min_runs, min_secs=min_secs, block_secs=1, clock=clock
    )
    assert timing.runs == pytest.approx(runs, abs=5)  # blocks hold at least three runs
    assert timing.runs >= runs
    assert timing.blocks == timing.runs / 3


def test_percentiles_are_those_of_all_timed_runs():
    clock = FakeClock()
    timing = measure(clock.fn("a", noisy(1, 0.01)), warmup_runs=3, clock=clock)
    times_ms = 1e3 * np.array([secs for _, secs in clock.calls[3:]])
    assert timing.runs == len(times_ms)
    got = (timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.mean_ms)
    assert got == pytest.approx((*np.percentile(times_ms, [50, 90, 99]), times_ms.mean()))
    assert timing.quantiles_ms == pytest.approx(np.quantile(times_ms, np.linspace(0, 1, 21)))


def test_ratio_is_the_slow_obvious_bootstrap():
    rng = np.random.default_rng(3)
    first = [list(rng.uniform(2, 3, size=n)) for n in (3, 4, 5, 3, 6, 7)]
    second = [list(rng.uniform(1, 2, size=n)) for n in (4, 3, 3, 5, 8, 3)]
    ratios = [np.median(a) / np.median(b) for a, b in zip(first, second, strict=True)]
    picks = np.random.default_rng(7).integers(6, size=(2000, 6))
    medians = [np.median([ratios[i] for i in pick]) for pick in picks]
    ratio = paired_ratio(first, second, seed=7, confidence=0.9)
    expected = (np.median(ratios), np.percentile(medians, 5), np.percentile(medians, 95))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx(expected)


def test_intervals_cover_the_true_ratio():
    """For equal functions 1, for a three times faster one 3, in about 95 % of 200 independent comparisons."""
    held = {1: 0, 3: 0}
    for seed in range(200):
        for factor in held:
            clock = FakeClock()
            slow = clock.fn("slow", noisy(2 * seed, 0.003))
            other = clock.fn("other", noisy(2 * seed + 1, 0.003 / factor))
            ratio = interleave(slow, other, clock=clock, other_cpu=lambda: None).ratio
            assert ratio.low <= ratio.value <= ratio.high
            held[factor] += ratio.low <= factor <= ratio.high
    assert all(178 <= count <= 200 for count in held.values()), held  # 190 less four standard deviations


@pytest.mark.parametrize(("cores", "valid"), [(0.0, True), (0.25, True), (0.5, False)])
def test_other_load_decides_validity(cores, valid):
    clock = FakeClock()
    watch = LoadWatch(clock, lambda: 100 + cores * clock.now)
    clock.now = 4.0
    load, is_valid, note = watch.finish()
    assert (load, is_valid, bool(note)) == (cores, valid, not valid)


def test_unknown_load_is_said():
    clock = FakeClock()
    result = interleave(*[clock.fn("f", lambda: 0.1)] * 2, clock=clock, other_cpu=lambda: None)
    assert (result.other_load, result.valid) == (None, True)
    assert "not known" in result.note


@pytest.mark.parametrize("content", [b"", b"\0" * 3_000_000, np.random.default_rng(0).bytes(1_200_001)])
def test_deflated_size_is_zlibs(tmp_path, content):
    path = tmp_path / "model"
    path.write_bytes(content)
    size = file_size(path, nonzeros=3, weights=4)
    assert size.size_bytes == len(content)
    assert size.deflated_bytes == len(zlib.compress(content, 9, wbits=-15))
    assert (size.nonzeros, size.weights) == (3, 4)


def test_machine_names_nobody():
    facts = machine()
    assert {"cpu", "cores", "os", "python", "torch", "onnxruntime", "onnx", "numpy"} <= facts.keys()
    assert facts["cores"] == os.cpu_count()
    words = json.dumps(facts).lower().replace('"', " ").split()
    assert platform.node().lower() not in words
    assert getpass.getuser().lower() not in words
    assert str(Path.home()) not in json.dumps(facts)


def probe(code):
    pytest.importorskip("resource")
    return [sys.executable, "-c", f"import json, sys; {code}"]


def test_memory_is_the_peak_and_what_was_added():
    command = probe('print("hello"); print(json.dumps({"baseline_kib": 10, "peak_kib": 14}))')
    assert peak_load_memory(command) == Memory(14 * 1024, 4 * 1024)


def test_late_imports_are_moved_into_the_baseline():
    late = 'late = [] if sys.argv[1:] == ["wave"] else ["wave"]'
    command = probe(f"{late}; print(json.dumps(dict(baseline_kib=8 - 6 * len(late), peak_kib=9, late_imports=late)))")
    assert peak_load_memory(command) == Memory(9 * 1024, 1024)


@pytest.mark.parametrize(
    ("code", "message"),
    [("sys.exit('no such model')", "exit code 1: no such model"), ("print('{}')", "no JSON"), ("pass", "no JSON")],
)
def test_a_dead_probe_is_a_clear_error(code, message):
    with pytest.raises(MobilepruneError, match=message):
        peak_load_memory(probe(code))


def test_probe_sees_an_allocation(tmp_path):
    """The real probe, on stand-ins for the artifact and its runtime, which allocates 64 MiB when opened."""
    pytest.importorskip("resource")
    (tmp_path / "stub.py").write_text(
        "import sys, types\n"
        "import numpy as np\n"
        "a = types.SimpleNamespace(manifest=types.SimpleNamespace(input_shape=(1, 2, 2)))\n"
        "class Runtime:\n"
        "    def __init__(self): self.held = np.ones(64 << 20, np.uint8)\n"
        "    def predict(self, x): return x.sum(axis=(1, 2, 3), keepdims=False)\n"
        "def module(name, **names):\n"
        "    sys.modules[name] = types.ModuleType(name); vars(sys.modules[name]).update(names)\n"
        "module('mobileprune.artifact', Artifact=types.SimpleNamespace(load=lambda path: a))\n"
        "module('mobileprune.runtimes', open_runtime=lambda artifact, num_threads=1: Runtime())\n"
        "from mobileprune.bench.memory_probe import main\n"
        "main(*sys.argv[1:])\n"
    )
    memory = peak_load_memory([sys.executable, str(tmp_path / "stub.py"), "somewhere", "1"])
    assert 56 << 20 <= memory.added_bytes <= 72 << 20  # the kernel batches its page counts per CPU
    assert memory.added_bytes < memory.peak_bytes


def fake_artifact(folder):
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"\0" * 1000)
    counts = {"prunable_zeros": 4, "prunable_total": 8, "all_zeros": 5, "all_total": 12}
    return SimpleNamespace(
        model_path=folder / "model.bin", manifest=SimpleNamespace(input_shape=(3, 5, 4), sparsity=counts)
    )


@pytest.mark.parametrize("with_baseline", [False, True])
def test_bench_reports_json_with_units(tmp_path, monkeypatch, with_baseline):
    seen = []

    def open_runtime(artifact, num_threads=1, native=True):
        assert num_threads == 2
        return SimpleNamespace(predict=lambda x: seen.append((x.shape, x.dtype)))

    runtimes = ModuleType("mobileprune.runtimes")
    runtimes.open_runtime, runtimes.kernels_used = open_runtime, lambda artifact: None
    monkeypatch.setitem(sys.modules, "mobileprune.runtimes", runtimes)
    monkeypatch.setattr(bench_package, "peak_load_memory", lambda command: Memory(None, None, "not here"))
    baseline = fake_artifact(tmp_path / "b") if with_baseline else None
    result = bench(fake_artifact(tmp_path / "a"), baseline, num_threads=2, warmup_runs=1, min_runs=5, min_secs=0)
    assert set(seen) == {((1, 3, 5, 4), np.dtype("float32"))}
    report = json.loads(json.dumps(result.to_dict()))
    assert set(report["artifact"]["latency_ms"]) == {"p50", "p90", "p99", "mean", "quantiles"}
    assert (report["artifact"]["size_bytes"], report["artifact"]["nonzeros"], report["num_threads"]) == (1000, 7, 2)
    assert (report["baseline"] is None, report["speedup"] is None) == (not with_baseline, not with_baseline)
