"""The pure parts of benchmarks/kernels.py: fake clocks, tiny networks, a result made by hand."""

import importlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from mobileprune.export.onnx import convert
from mobileprune.native import library, reason

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "quiet",
    "kernel_cases",
    "kernel_sessions",
    "kernel_layers",
    "kernel_torch",
    "kernel_engines",
    "publish_kernels",
)


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[Any]:
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


class Machine:
    """A clock that runs only in subjects, and the CPU seconds that others use meanwhile."""

    def __init__(self, loads: list[float]) -> None:
        self.now, self.others, self.loads, self.slept = 0.0, 0.0, iter(loads), 0.0

    def subject(self, secs_of_run: float, elsewhere: float = 0.0) -> Any:
        def block(secs: float) -> tuple[list[float], float]:
            took = max(3, int(secs / secs_of_run)) * secs_of_run
            self.now += took
            self.others += next(self.loads) * took + elsewhere * took
            return [secs_of_run] * round(took / secs_of_run), elsewhere * took

        return block

    def sleep(self, secs: float) -> None:
        self.slept += secs

    def compare(self, benchmarks: Any, *subjects: Any, **options: Any) -> Any:
        now = {"clock": lambda: self.now, "other_cpu": lambda: self.others, "sleep": self.sleep}
        return benchmarks.quiet.compare(*subjects, rounds=5, **now, **options)


def test_disturbed_pairs_are_left_out(benchmarks: Any) -> None:
    machine = Machine([0, 0, *[0.5, 0, 0, 0.5], *[0] * 10])
    found = machine.compare(benchmarks, machine.subject(0.03), machine.subject(0.01))
    assert (found.pairs, found.left_out, found.quiet) == (5, 2, True)
    assert found.ratio.value == found.ratio.low == found.ratio.high == pytest.approx(3)
    assert (found.baseline_ms, found.candidate_ms) == (pytest.approx(30), pytest.approx(10))
    assert machine.slept > 0


def test_on_a_busy_machine_the_quietest_pairs_are_used_and_called_busy(benchmarks: Any) -> None:
    machine = Machine([0, 0, *[2, 2] * 6, *[0.5, 0.6] * 5, *[2, 2] * 100])
    found = machine.compare(benchmarks, machine.subject(0.01), machine.subject(0.01), budget_secs=6.0)
    assert (found.pairs, found.quiet) == (5, False)
    assert 0.5 < found.other_load <= 0.6
    assert found.left_out >= 6


def test_what_a_subject_uses_in_another_process_is_not_load(benchmarks: Any) -> None:
    machine = Machine([0] * 20)
    assert machine.compare(benchmarks, machine.subject(0.01), machine.subject(0.01, elsewhere=2.0)).quiet
    machine = Machine([0] * 20)
    found = machine.compare(benchmarks, machine.subject(0.01), machine.subject(0.01), budget_secs=1.0)
    assert found.quiet


def test_the_first_run_of_a_block_is_not_counted(benchmarks: Any) -> None:
    times, calls = iter(range(1000)), []
    subject = benchmarks.quiet.in_process(lambda: calls.append(1), clock=lambda: float(next(times)))
    assert subject(5.0) == ([1.0] * 5, 0.0)
    assert len(calls) == 6


class Net(nn.Module):
    """First convolution, 3x3 with stride, depthwise, 1x1 with a residual, last layer."""

    def __init__(self, channels: int = 8, rows: int = 12) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.wide = nn.Conv2d(channels, rows, 3, stride=2, padding=2, dilation=2, bias=False)
        self.depth = nn.Conv2d(rows, rows, 3, padding=1, groups=rows)
        self.point = nn.Conv2d(rows, rows, 1)
        self.last = nn.Linear(rows, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depth(torch.relu(self.wide(torch.relu(self.first(x))))))
        x = torch.relu(self.point(x) + x)
        return self.last(x.mean((2, 3)))


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 13), st.sampled_from([0.0, 0.5, 0.8, 0.9]), st.booleans())
def test_the_share_of_zeros_is_exact_in_every_pruned_layer(
    benchmarks: Any, channels: int, rows: int, sparsity: float, block: bool
) -> None:
    torch.manual_seed(channels)
    model = Net(channels, rows)
    pattern = "block:4x1" if block else "unstructured"
    found = benchmarks.kernel_cases.sparse_weights(model, pattern, sparsity, torch.zeros(1, 3, 8, 8))
    layers = {"wide.weight": model.wide, "point.weight": model.point}
    expected = {name for name, layer in layers.items() if layer.weight.shape[1] > 1}
    assert set(found) == expected
    for name, weights in found.items():
        units = -(-rows // 4) * weights[0].numel() if block else weights.numel()
        groups = weights.split(4) if block else [weights]
        kept = sum(int((group != 0).any(0).sum()) if block else int((group != 0).sum()) for group in groups)
        assert kept == units - int(sparsity * units + 1e-9)
        assert float(weights.norm().detach()) == pytest.approx(float(layers[name].weight.norm().detach()), rel=1e-5)


def test_the_onnx_file_has_the_weights_of_the_pruned_model(benchmarks: Any) -> None:
    case = tiny(benchmarks, "block:4x1")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in case.proto.graph.initializer}
    for name in ("wide.weight", "point.weight"):
        np.testing.assert_array_equal(stored[name], case.model.get_parameter(name).detach())
    assert benchmarks.kernel_sessions.weights(case.proto)["nonzeros"] == sum(
        int(p.count_nonzero()) for p in case.model.parameters() if p.ndim > 1
    )


@cache
def exported() -> tuple[nn.Module, onnx.ModelProto, tuple[int, int, int]]:
    torch.manual_seed(1)
    model = Net().eval()
    return model, convert(model, (3, 9, 9), 18), (3, 9, 9)


def tiny(benchmarks: Any, pattern: str) -> Any:
    return benchmarks.kernel_cases.pruned(benchmarks.kernel_cases.Network(*exported()), pattern, 0.9)


def test_an_answer_that_differs_or_is_no_number_stops_the_run(benchmarks: Any) -> None:
    verified, right = benchmarks.kernel_sessions.verified, np.array([[1.0, -4.0]], np.float32)
    assert verified(right, right * np.float32(1 + 1e-6), "it") < 1e-5
    for wrong in (right + 1, right * np.float32("nan")):
        with pytest.raises(RuntimeError, match="it: differs from dense ONNX Runtime"):
            verified(right, wrong, "it")


def test_torch_csr_computes_the_same_network(benchmarks: Any) -> None:
    case = tiny(benchmarks, "unstructured")
    threads = torch.get_num_threads()
    made = benchmarks.kernel_torch.csr(case.model, case.image, 1)()
    torch.set_num_threads(threads)
    with torch.no_grad():
        np.testing.assert_allclose(made, case.model(torch.from_numpy(case.image)), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(library() is None, reason=reason())
@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1"])
def test_every_native_layer_has_its_times_and_its_stored_weights(
    benchmarks: Any, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks.kernel_layers, "RUNS", 3)
    *layers, rest = benchmarks.kernel_layers.layers(tiny(benchmarks, pattern), 100.0)
    assert {name for row in layers for name in row["layers"]} >= {"wide.weight", "point.weight"}
    assert {pixels for row in layers for pixels in row["pixels"]} == {25}
    for row in layers:
        assert row["dense_us"] >= 0
        assert row["native_us"] >= 0
        assert row["stored"] >= 1
        assert row["multiply_adds"] >= 25 * row["nonzeros"] > 0
        assert row["kernel"]
    assert rest["layers"] == []


def test_names_of_fused_layers_lead_back_to_their_weights(benchmarks: Any) -> None:
    case = tiny(benchmarks, "unstructured")
    made, names = benchmarks.kernel_layers.labelled(case.proto)
    assert {node.name for node in made.graph.node if node.op_type in ("Conv", "Gemm")} == set(names.values())
    assert not any(node.name for node in case.proto.graph.node)
    relu = next(node for node in made.graph.node if node.op_type == "Relu")
    assert names[f"{relu.output[0]}_nchwc"] == "first.weight"
    onnx.checker.check_model(made)


def test_an_engine_that_fails_says_why(benchmarks: Any, tmp_path: Path) -> None:
    def write(case: Any, path: Path) -> None:
        path.write_bytes(b"no model")

    opened = benchmarks.kernel_engines.engine("no-such-engine", write)(tiny(benchmarks, "unstructured"), tmp_path)
    with pytest.raises(RuntimeError, match="no-such-engine"), opened(1, sys.executable):
        pass


def timed(value: float, *, quiet: bool = True) -> dict[str, Any]:
    ratio = {"value": value, "low": value - 0.1, "high": value + 0.1, "confidence": 0.95}
    return {
        "baseline_ms": 8.0,
        "candidate_ms": 8 / value,
        "ratio": ratio,
        "quiet": quiet,
        "other_load": 0.7,
        "error": 1e-6,
    }


def test_the_page_shows_every_case_the_fastest_first_and_what_was_busy_or_refused(benchmarks: Any) -> None:
    layer = {"layers": ["a.weight"], "shapes": [[8, 4, 3, 3]], "pixels": [49], "kernel": "k", "nonzeros": 20}
    layer |= {"dense_us": 90.0, "native_us": 30.0, "multiply_adds": 1176, "stored": 1.2, "share_of_limit": 0.25}
    case = {"weights": 1000, "nonzeros": 150, "threads": {"1": timed(3), "2": timed(2, quiet=False)}}
    case |= {"scaling": {"2": timed(1.5)}, "layers": [layer, {"layers": [], "dense_us": 7.0, "native_us": 6.0}]}
    peer = {"pattern": "unstructured", "sparsity": 0.9}
    peers = [
        peer | {"peer": "slow", "threads": 1} | timed(1),
        peer | {"peer": "fast", "threads": 1, "pattern": ""} | timed(4) | {"error": None},
        peer | {"peer": "absent", "refused": "not installed"},
    ]
    networks = {"net": {"side": 32, "cases": {"unstructured 0.9": case}, "peers": peers}}
    value = {"networks": networks, "limit_gmacs": 50.0, "machine": {"cpu": "some"}, "date": "2026-01-01"}
    page = benchmarks.publish_kernels.page(value)
    assert "3.00x [2.90, 3.10]" in page
    assert "(busy: 0.7)" in page
    assert "15.0%" in page
    assert "| a | 8x4x3x3 | 49 | k | 20 | 1.20 | 90 us | 30 us | 3.00x | 25% |" in page
    beside = page[page.index("## Beside") : page.index("## Layer")]
    places = [beside.index(word) for word in ("fast", "native operators", "slow", "not installed")]
    assert places == sorted(places)
