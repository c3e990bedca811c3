"""A device whose disk is full, for real: a small one, mounted where nobody else sees it, which needs root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.devices import Faulty, Runner, answers, images, job, model, needs_runner

from mobileprune import native
from mobileprune.devices import Done
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import DeviceError

pytestmark = [
    needs_runner,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare on PATH"),
]
CANNOT_MOUNT = 99


def mounted(folder: Path, size: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """What ``command`` said where ``disk`` is a disk of its own of ``size``, and what was left on it as last line."""
    mount = f"mkdir -p disk && mount -t tmpfs -o size={size} tmpfs disk || exit {CANNOT_MOUNT}"
    script = f"{mount}; {shlex.join(command)}; code=$?; echo left: $(ls -A disk); exit $code"
    env = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "disk")}
    argv = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode == CANNOT_MOUNT:
        pytest.skip("this system lets nobody mount a disk of their own")
    return done


def test_what_does_not_fit_on_the_device_is_an_error(tmp_path: Path, artifacts: dict[str, Path]) -> None:
    argv = [sys.executable, "-m", "mobileprune", "bench", str(artifacts["onnx"]), "--device", "local", "--quiet"]
    done = mounted(tmp_path, "8m", argv)
    assert done.returncode == 5
    assert "local: cannot write libonnxruntime there: No space left on device" in done.stderr
    assert done.stdout == "left:\n"


def test_outputs_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    runner = Runner(tmp_path, model(tmp_path / "model.onnx"), images(2000))
    assert runner.call().returncode == 0
    assert runner.outputs().tobytes() == answers(tmp_path / "model.onnx", images(2000)).tobytes()
    words = [w for k, v in {**runner.arguments, "outputs": "disk/out"}.items() for w in (f"--{k}", str(v))]
    done = mounted(tmp_path, "16k", [str(native.runner(native.this_platform())), *words])
    assert done.returncode == 7
    assert done.stderr == "runner: cannot write disk/out: No space left on device\n"
    assert done.stdout == "left:\n"
    assert not (tmp_path / "result.json").exists()


def test_a_session_says_what_that_means(tmp_path: Path) -> None:
    device = Faulty(execute=lambda command, folder: Done(7, "", "runner: cannot write out: No space left on device\n"))
    with pytest.raises(DeviceError, match=r"its disk is full or cannot be read: .*No space left on device"):
        DeviceSession(device).run(job(model(tmp_path / "model.onnx")))
    device.close()
