"""A file on a device answers what it answers here, in as many runs as its images need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.devices import Faulty, needs_runner
from support.runtimes import MANIFEST, SHAPE, Files, pixels

from mobileprune.artifact import Artifact
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import ArtifactError, TargetUnavailableError, UsageError
from mobileprune.files import sha256
from mobileprune.runtimes import device as on_device
from mobileprune.runtimes import open_runtime
from mobileprune.runtimes.device import TARGETS, DeviceRuntime

pytestmark = needs_runner
SUFFIX = {"onnx": "model.onnx", "ort": "model.ort"}


def artifact(content: bytes, folder: Path, target: str, **changes: Any) -> Artifact:
    name = SUFFIX.get(target, "model")
    (folder / name).write_bytes(content)
    manifest = replace(MANIFEST, target=target, file=name, sha256=sha256(folder / name), **changes)
    return Artifact(folder, manifest)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("baked", [False, True])
def test_its_answers_are_those_of_this_process(files: Files, tmp_path: Path, target: str, baked: bool) -> None:
    made, device = artifact(files[target, baked], tmp_path, target, preprocessing_baked=baked), Faulty()
    runtime = DeviceRuntime(made, DeviceSession(device))
    x = pixels(300)
    assert runtime.predict(x).tobytes() == open_runtime(made).predict(x).tobytes()
    assert device.pushed.count("in") == 1, "all batches go in one run"
    assert runtime.predict(x[:0]).shape == (0, 4)
    with pytest.raises(UsageError, match="does not fit this model"):
        runtime.predict(np.zeros((1, 1, 1, 1), np.float32))
    facts = runtime.facts
    assert (facts["name"], facts["emulated"]) == ("null", False)
    assert runtime.identity()["runtime_sha256"] == sha256(DeviceSession(device).runtime)
    device.close()


def test_large_images_go_in_smaller_batches_and_runs(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = 4 * int(np.prod(SHAPE))
    monkeypatch.setattr(on_device, "BATCH_BYTES", 2 * image)
    monkeypatch.setattr(on_device, "RUN_BYTES", 7 * image)
    made, device = artifact(files["onnx", False], tmp_path, "onnx"), Faulty()
    x = pixels(20)
    found = DeviceRuntime(made, DeviceSession(device)).predict(x)
    assert device.pushed.count("in") == 4, "runs of 3 batches of 2 images"
    np.testing.assert_allclose(found, open_runtime(made).predict(x), rtol=1e-5, atol=1e-6)
    device.close()


def test_other_targets_are_refused_before_anything_is_pushed(files: Files, tmp_path: Path) -> None:
    device = Faulty()
    made = artifact(files["torchscript-lite", False], tmp_path, "torchscript-lite")
    with pytest.raises(TargetUnavailableError, match="target torchscript-lite is run on this machine alone"):
        DeviceRuntime(made, DeviceSession(device))
    assert device.pushed == []
    device.close()


def test_what_this_machine_refuses_no_device_sees(files: Files, tmp_path: Path) -> None:
    device = Faulty()
    made = artifact(files["onnx", False][:-100], tmp_path, "onnx")
    with pytest.raises(ArtifactError):
        DeviceRuntime(made, DeviceSession(device))
    assert device.pushed == []
    device.close()
