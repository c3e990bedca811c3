"""A device whose disk fills up, for real: on a small file system, which needs root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.devices import Faulty, job, model, needs_runner

from mobileprune.devices import Done
from mobileprune.devices.job import Device, DeviceSession
from mobileprune.errors import DeviceError

pytestmark = needs_runner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return model(tmp_path / "model.onnx")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    argv = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if not mount or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs root, who may mount a small one")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_an_error(path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    says = "local: cannot write libonnxruntime there: No space left on device"
    with pytest.raises(DeviceError, match=says), Device("local").session() as session:
        session.run(job(path))
    assert [*small_disk.iterdir()] == []


def test_a_disk_that_fills_up_while_it_computes_is_an_error(path: Path, small_disk: Path) -> None:
    def run(command: Sequence[str], folder: Path) -> Done:
        (small_disk / "rest").write_bytes(bytes(2**20 - 8192))
        done = subprocess.run(elsewhere(command, small_disk), cwd=folder, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    device = Faulty(execute=run)
    with pytest.raises(DeviceError, match=r"its disk is full or cannot be read: .*No space left on device"):
        DeviceSession(device).run(job(path, 2000))
    device.close()
    assert not device.folder.exists()


def elsewhere(command: Sequence[str], folder: Path) -> list[str]:
    """Writes its outputs to ``folder``."""
    words = list(command)
    words[words.index("--outputs") + 1] = str(folder / "out")
    return words
