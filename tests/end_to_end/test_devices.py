"""The verbs with ``--device``: what they show and write; a device that fails costs nothing but exit code 5."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.devices import Faulty, needs_runner
from support.native import needs_library

from mobileprune import schemas
from mobileprune.devices import DEVICES, Done

pytestmark = [pytest.mark.usefixtures("quick_bench"), needs_runner]
QUICK = ("--num-runs", 5, "--min-secs", 0, "--warmup-runs", 0)


def document(path: Path, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    assert schemas.problems(value, name) == []
    return value


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_bench_on_this_machine_as_a_device(command, artifacts, tmp_path) -> None:
    path = tmp_path / "bench.json"
    done = command("bench", artifacts["onnx"], *QUICK, "--device", "local", "--profile", "--json", path)
    assert done.code == 0, done
    value = document(path, "device_bench")
    assert value["device"]["name"] == "local"
    assert value["speedup"]["low"] <= value["speedup"]["value"]
    for words in ("latency p50", "speed-up", "background load", "the exported file by operator"):
        assert words in done.out, words


@pytest.mark.parametrize("verb", ["attack", "audit"])
def test_the_attacks_on_a_device_are_held_against_this_machine_s(command, artifacts, tmp_path, verb) -> None:
    path = tmp_path / "found.json"
    done = command(verb, artifacts["onnx"], "--device", "local", "--json", path)
    assert done.code in (0, 4), done
    value = document(path, verb)
    found = value["on_device"]
    assert (found["top1_differ"], found["largest_difference"]) == (0, 0.0)
    assert found["examples"] == value["data"]["counts"]["members"] + value["data"]["counts"]["held_out"]
    for group, attacks in found["auc_difference"].items():
        assert {(e["value"], e["low"], e["high"]) for e in attacks.values()} == {(0.0, 0.0, 0.0)}
        measured = value["subjects"]["artifact"]["measurements"][group]
        assert {name: e["value"] for name, e in found["auc"][group].items()} == {
            name: m["auc"]["value"] for name, m in measured.items()
        }
    assert "the exported file was asked on local" in done.out
    assert "AUC there minus here" in done.out


@needs_library
def test_native_kernels_go_to_the_device_with_the_file(command, tiny, tmp_path) -> None:
    path = tmp_path / "found.json"
    assert command("export", "-o", tmp_path / "out", *tiny, "--kernels", "native").code == 0
    assert command("attack", tmp_path / "out", "--device", "local", "--json", path).code == 0
    value = document(path, "attack")
    assert (value["on_device"]["top1_differ"], value["on_device"]["largest_difference"]) == (0, 0.0)
    assert "ran on native kernels" in value["on_device"]["kernels"]
    done = command("bench", tmp_path / "out", *QUICK, "--device", "local", "--profile", "--json", path)
    assert {"SparseConvRelu", "Gemm"} <= document(path, "device_bench")["operators"].keys()
    assert "ran on native kernels" in done.out


def test_answers_of_a_device_that_computes_otherwise_show(command, artifacts, tmp_path, monkeypatch) -> None:
    """On a device that adds noise to its answers, attacks give another AUC, and the difference is told."""
    monkeypatch.setitem(DEVICES, "null", lambda name: Faulty(after=noisy))
    path = tmp_path / "found.json"
    assert command("attack", artifacts["onnx"], "--device", "null", "--json", path).code == 0
    found = document(path, "attack")["on_device"]
    assert found["largest_difference"] > 1
    assert found["top1_differ"] > 0
    assert any(e["low"] < e["high"] for e in found["auc_difference"]["all"].values())


def test_stronger_attackers_ask_the_device_too(command, artifacts, tmp_path) -> None:
    path = tmp_path / "found.json"
    effort = ("--queries", 3, "--access", "file", "--versions", artifacts["ort"])
    assert command("attack", artifacts["onnx"], *effort, "--device", "local", "--json", path).code == 0
    attacks = document(path, "attack")["on_device"]["auc_difference"]["all"]
    assert {"augmentations", "sensitivity", "gradient_norm", "version_sum"} <= attacks.keys()
    assert {e["value"] for e in attacks.values()} == {0.0}


def noisy(folder: Path) -> None:
    import numpy as np

    out, result = folder / "out", folder / "result.json"
    numbers = np.fromfile(out, "<f4")
    (numbers + np.random.default_rng(0).normal(scale=5, size=numbers.shape).astype("<f4")).tofile(out)
    value = json.loads(result.read_text())
    value["outputs"]["sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
    result.write_text(json.dumps(value))


def test_a_report_has_what_the_device_said(command, artifacts, tmp_path) -> None:
    done = command(
        "report", artifacts["onnx"], "-o", tmp_path / "r", "--device", "local", "--json", tmp_path / "r.json"
    )
    assert done.code == 0, done
    value = document(tmp_path / "r.json", "report")
    assert value["device_bench"]["device"]["name"] == "local"
    assert value["audit"]["on_device"]["top1_differ"] == 0
    page = (tmp_path / "r" / "report.md").read_text()
    assert "local, linux" in page or "local, macos" in page
    assert "The exported file on local and on this machine" in page


FAULTS = {
    "killed": ({"execute": lambda command, folder: Done(-9, "", "")}, "killed by signal 9, SIGKILL"),
    "lost": ({"cut": range(1, 9)}, "the connection broke while it was pushed to"),
    "truncated": ({"after": lambda folder: (folder / "out").write_bytes(b"")}, "truncated result"),
    "architecture": ({"platform": "linux-vax"}, "there is no runner for linux-vax"),
}


@pytest.mark.parametrize("verb", ["bench", "attack", "report"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_device_that_fails_is_exit_code_5_and_nothing_is_lost(
    command, artifacts, tmp_path, monkeypatch, verb, fault
) -> None:
    options, says = FAULTS[fault]
    devices: list[Faulty] = []
    monkeypatch.setitem(DEVICES, "null", lambda name: devices.append(Faulty(**options)) or devices[-1])
    before = digests(artifacts["onnx"])
    out = ["-o", tmp_path / "report"] if verb == "report" else []
    done = command(verb, artifacts["onnx"], *out, "--device", "null", "--json", tmp_path / "found.json")
    assert (done.code, says in done.err, done.err.count("error:")) == (5, True, 1), done
    assert digests(artifacts["onnx"]) == before
    assert not (tmp_path / "found.json").exists()
    assert not (tmp_path / "report").exists()
    assert devices
    assert not any(device.folder.exists() for device in devices)


def test_an_interrupt_leaves_nothing_behind(artifacts, tmp_path) -> None:
    """In a process of its own, while the device computes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    argv = [
        sys.executable,
        "-m",
        "mobileprune",
        "bench",
        str(artifacts["onnx"]),
        "--device",
        "local",
        "--sustained",
        "5",
    ]
    environment = os.environ | {"TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [*argv, "-q"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background ignores SIGINT, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 100
    while not [*scratch.glob("mobileprune-device-*/out")] and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "interrupted" in said) == (130, True), said
    assert [*scratch.glob("mobileprune-device-*")] == []


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (("bench", "onnx", "--device", "locla"), 2, "did you mean 'local'"),
        (("bench", "onnx", "--device", "local:3"), 5, "this machine is just 'local'"),
        (("bench", "onnx", "--cpus", "0"), 2, "say which with --device"),
        (("attack", "onnx", "--device-runtime", "x.so"), 2, "say which with --device"),
        (("bench", "onnx", "--profile"), 2, "add --device local"),
        (("bench", "onnx", "--sustained", "1"), 2, "add --device local"),
        (("bench", "onnx", "--device", "local", "--sustained", "-1"), 2, "must be minutes from 0 to"),
        (("bench", "onnx", "--device", "local", "--sustained", "nan"), 2, "must be minutes from 0 to"),
        (("bench", "onnx", "--device", "local", "--cpus", "0,"), 2, "must be numbers of CPUs"),
        (("bench", "onnx", "--device", "local", "--cpus", "1023"), 5, "has no such CPU"),
        (("bench", "onnx", "--device", "local", "--device-runtime", "missing.so"), 5, "cannot read missing.so"),
        (("bench", "torchscript-lite", "--device", "local"), 5, "is run on this machine alone"),
        (("audit", "torchscript-lite", "--device", "local"), 5, "is run on this machine alone"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_tried(command, artifacts, argv, code, says) -> None:
    done = command(argv[0], artifacts[argv[1]], *argv[2:])
    assert (done.code, says in done.err) == (code, True), done


def test_a_model_that_is_no_artifact_is_asked_here_alone(command, tmp_path) -> None:
    import numpy as np
    from support.foreign import COUNT, LABELS, MEMBER, PIXELS, linear_onnx

    np.savez(tmp_path / "d.npz", images=PIXELS[:COUNT].transpose(0, 2, 3, 1), labels=LABELS, member=MEMBER)
    path = linear_onnx(tmp_path / "theirs.onnx")
    done = command("attack", path, "--dataset", f"npz:{tmp_path / 'd.npz'}", "--device", "local")
    assert (done.code, "--device takes an artifact" in done.err) == (2, True), done
