"""The runner against the Python package of the same ONNX Runtime, and against whatever it may be given."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support.devices import CLASSES, Runner, answers, as_model, graph, images, model, needs_runner

from mobileprune import native, schemas

pytestmark = needs_runner


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path, model(tmp_path / "model.onnx"), images(7))


@pytest.mark.parametrize(("count", "batch"), [(1, 256), (7, 3), (300, 256), (5, 1)])
@pytest.mark.parametrize("suffix", [".onnx", ".ort"])
def test_answers_are_those_of_the_python_package_bit_for_bit(
    tmp_path: Path, count: int, batch: int, suffix: str
) -> None:
    path, x = model(tmp_path / "model.onnx"), images(count)
    if suffix == ".ort":
        path = as_ort(path)
    runner = Runner(tmp_path, path, x)
    done = runner.call(batch=batch)
    assert done.returncode == 0, done.stderr
    assert runner.outputs().tobytes() == answers(path, x, batch).tobytes()
    value = json.loads((tmp_path / "result.json").read_text())
    assert schemas.problems(value, "runner_result") == []
    assert (value["timing"], value["profiles"], value["operators"]) == (None, [], False)


def as_ort(path: Path) -> Path:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".ort"))
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return path.with_suffix(".ort")


def test_two_models_are_timed_in_turn(runner: Runner, tmp_path: Path) -> None:
    other = as_model(model(tmp_path / "other.onnx", seed=1))
    extra = {
        "runs": 10,
        "warmup": 2,
        "secs": 0.01,
        "warmup_secs": 0.5,
        "sustained_secs": 0.1,
        "profile": "p",
        "cpus": 0,
    }
    done = runner.call(baseline=other.path, baseline_sha256=other.sha256, batch=1, **extra)
    assert done.returncode == 0, done.stderr
    value = json.loads((tmp_path / "result.json").read_text())
    assert schemas.problems(value, "runner_result") == []
    timing = value["timing"]
    assert len(timing["model_ns"]) == len(timing["baseline_ns"]) >= 5
    assert all(len(block) >= 3 and min(block) > 0 for block in timing["model_ns"] + timing["baseline_ns"])
    assert all(sum(block) >= 0.05e9 for block in timing["model_ns"])
    assert timing["warmup_blocks"] > 0
    assert timing["sustained"][0]["runs"] > 0
    events = [json.loads((tmp_path / name).read_text()) for name in value["profiles"]]
    assert [name.startswith(f"p-{whose}") for name, whose in zip(value["profiles"], ("model", "baseline"), strict=True)]
    assert all({e["args"]["op_name"] for e in each if e["cat"] == "Node"} >= {"MatMul"} for each in events)


def test_markers_need_no_timing(runner: Runner) -> None:
    assert runner.call("--count-markers", warmup=1).returncode == 0
    assert runner.outputs().shape == (7, CLASSES)


USAGE, WRONG, NO_RUNTIME, REFUSED, DISK = 2, 3, 4, 5, 7


@pytest.mark.parametrize(
    ("code", "changes", "says"),
    [
        (USAGE, {"runtime": None}, "--runtime is missing"),
        (USAGE, {"shape": None}, "--shape is missing"),
        (USAGE, {"shape": "7,2,6"}, "must be N,C,H,W"),
        (USAGE, {"shape": "7,2,6,6,1"}, "must be N,C,H,W"),
        (USAGE, {"shape": "-7,2,6,6"}, "must be a whole number from 1"),
        (USAGE, {"shape": "16777216,16777216,16777216,1"}, "is too large"),
        (USAGE, {"shape": "1,16777216,16777216,1"}, "is too large"),
        (USAGE, {"shape": "8,2,6,6"}, "in: has 2016 bytes, --shape says 2304"),
        (USAGE, {"shape": "6,2,6,6"}, "in: has 2016 bytes, --shape says 1728"),
        (USAGE, {"threads": "1e3"}, "must be a whole number"),
        (USAGE, {"threads": "99999999999999999999"}, "from 1 to 256"),
        (USAGE, {"batch": 0}, "from 1 to"),
        (USAGE, {"secs": "nan"}, "must be seconds"),
        (USAGE, {"cpus": "0,"}, "must be numbers of CPUs"),
        (USAGE, {"cpus": "1023"}, "has no such CPU"),
        (USAGE, {"baseline": "x"}, "go together"),
        (USAGE, {"nothing": "x"}, "no such option"),
        (WRONG, {"sha256": "0" * 64}, "must be 0000"),
        (NO_RUNTIME, {"runtime": "nothing.so"}, "cannot load the runtime"),
        (DISK, {"model": "nothing.onnx"}, "cannot read nothing.onnx"),
        (DISK, {"inputs": "nothing"}, "cannot read nothing"),
        (DISK, {"outputs": "no/such"}, "cannot write no/such"),
        (DISK, {"result": "no/such"}, "cannot write no/such"),
    ],
)
def test_what_it_cannot_do_it_says(runner: Runner, code: int, changes: dict[str, object], says: str) -> None:
    done = runner.call(**changes)
    assert (done.returncode, says in done.stderr) == (code, True), done
    assert done.stderr.count("\n") == 1
    assert not (runner.folder / "result.json").exists()


def test_what_is_no_plain_file_is_not_replaced(runner: Runner) -> None:
    pipe = runner.folder / "pipe"
    os.mkfifo(pipe)
    try:
        done = runner.call(result="pipe")
        assert (done.returncode, "it is no plain file" in done.stderr) == (DISK, True), done
        assert pipe.is_fifo()
    finally:
        pipe.unlink()


def test_a_library_that_is_no_onnx_runtime(runner: Runner) -> None:
    library = native.library()
    assert library is not None, "it is built beside the runner"
    done = runner.call(runtime=library)
    assert (done.returncode, "it has no OrtGetApiBase" in done.stderr) == (NO_RUNTIME, True), done


def test_an_older_result_is_not_taken_for_this_run_s(runner: Runner) -> None:
    assert runner.call().returncode == 0
    assert runner.call(threads=1, operators="nothing.so").returncode == NO_RUNTIME
    assert not (runner.folder / "result.json").exists()


OUTPUTS = {
    "rank": ([helper.make_node("Relu", ["input"], ["logits"])], ("input",), 1, "not float32 of shape"),
    "type": (
        [helper.make_node("Flatten", ["input"], ["f"]), helper.make_node("Cast", ["f"], ["logits"], to=11)],
        ("input",),
        11,
        "not float32 of shape",
    ),
    "rows": ([helper.make_node("Flatten", ["input"], ["logits"], axis=2)], ("input",), 1, "for 7 images"),
    "inputs": ([helper.make_node("Add", ["input", "b"], ["logits"])], ("input", "b"), 1, "has 2 inputs"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_models_of_another_form_are_refused(tmp_path: Path, kind: str) -> None:
    nodes, inputs, output_type, says = OUTPUTS[kind]
    runner = Runner(tmp_path, graph(tmp_path / "model.onnx", nodes, {}, inputs, output_type), images(7))
    done = runner.call()
    assert (done.returncode, says in done.stderr) == (REFUSED, True), done


def test_truncated_models_are_refused(tmp_path: Path) -> None:
    whole = model(tmp_path / "whole.onnx").read_bytes()
    for length in np.linspace(0, len(whole) - 1, 12, dtype=int):
        (tmp_path / "model.onnx").write_bytes(whole[:length])
        done = Runner(tmp_path, tmp_path / "model.onnx", images(1)).call()
        assert done.returncode in (REFUSED, 6), (length, done)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 119, 120, 70_000])
def test_hashes_are_those_of_hashlib(tmp_path: Path, length: int) -> None:
    content = np.random.default_rng(length).bytes(length)
    (tmp_path / "a").write_bytes(content)
    argv = [str(native.runner(native.this_platform())), "--hash", "a", "nothing", "."]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{hashlib.sha256(content).hexdigest()} {length}", "-", "-"]


@pytest.mark.long
def test_no_bad_access_under_sanitizers(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole runs, arguments that are refused and truncated models, with every access checked."""
    compiler, sources = shutil.which("cc"), Path(__file__).parents[2] / "export"
    if not compiler:
        pytest.skip("no C compiler on PATH")
    built = tmp_path / "checked"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-D_GNU_SOURCE"]
    files = [*map(str, sorted((sources / "runner").glob("*.c")))]
    argv = [compiler, *flags, f"-I{sources / 'onnxruntime'}", *files, "-ldl", "-lm", "-o", str(built)]
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no sanitizers here: {made.stderr[-200:]}")
    monkeypatch.setattr(native, "runner", lambda platform: built)
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0:exitcode=99")  # what ends with the process is not given back
    monkeypatch.setenv("UBSAN_OPTIONS", "exitcode=99")
    other = as_model(model(tmp_path / "other.onnx", seed=1))
    timed = {"runs": 5, "warmup": 1, "secs": 0.01, "warmup_secs": 0.3, "sustained_secs": 0.1, "profile": "p"}
    done = runner.call(baseline=other.path, baseline_sha256=other.sha256, batch=2, **timed)
    assert done.returncode == 0, done.stderr[-2000:]
    assert runner.outputs().tobytes() == answers(runner.arguments["model"], images(7), 2).tobytes()
    for changes in ({"shape": "1,2"}, {"shape": ","}, {"cpus": ""}, {"cpus": "9" * 30}, {"secs": ""}, {"sha256": ""}):
        assert runner.call(**changes).returncode in (2, 3), changes
    whole = model(tmp_path / "whole.onnx").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        assert Runner(tmp_path, tmp_path / "cut.onnx", images(1)).call().returncode in (5, 6)


def test_it_is_small() -> None:
    found = native.runner(native.this_platform())
    assert found is not None
    assert found.stat().st_size < 100_000
