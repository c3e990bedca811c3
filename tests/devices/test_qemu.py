"""Emulated processors: ONNX Runtime's aarch64 build answers as this machine's does, and its instructions are counted.

These use what ``mobileprune devices setup qemu`` left in ``MOBILEPRUNE_DEVICES`` or the user's cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny import TINY

import mobileprune
from mobileprune import native
from mobileprune.artifact import Artifact
from mobileprune.devices import CountingTransport, open_device
from mobileprune.devices.job import Job
from mobileprune.devices.profiles import PROFILES
from mobileprune.devices.qemu_parts import PLATFORM, RECORD, Parts, devices_root, emulator
from mobileprune.devices.qemu_setup import missing_tools, remove, set_up
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import DeviceError, UsageError
from mobileprune.runtimes import open_runtime
from mobileprune.runtimes.device import DeviceRuntime, model_of

ROOT = devices_root()  # before the tests' own environment hides the user's settings
HWCAP = (
    *(
        "fp",
        "asimd",
        "evtstrm",
        "aes",
        "pmull",
        "sha1",
        "sha2",
        "crc32",
        "atomics",
        "fphp",
        "asimdhp",
        "cpuid",
        "asimdrdm",
    ),
    *("jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4", "asimddp", "sha512", "sve", "asimdfhm", "dit", "uscat"),
    *("ilrcpc", "flagm", "ssbs", "sb", "paca", "pacg"),
)
"""Features by their bit in AT_HWCAP, from Linux's uapi header for arm64."""


def unavailable() -> str:
    try:
        emulator()
        Parts.found()
    except DeviceError as error:
        return str(error)
    return "; ".join(missing_tools())


real = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "is there")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(ROOT))


@pytest.fixture(scope="module")
def sparse(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A file that calls native operators."""
    options = {"method": "magnitude", "sparsity": 0.9, "kernels": "native", **TINY}
    return mobileprune.export(
        tmp_path_factory.mktemp("sparse") / "out", ctx=mobileprune.context(store), **options
    ).artifact


@real
@pytest.mark.parametrize("cpu", PROFILES)
def test_answers_are_those_of_this_machine_and_counts_repeat(there, sparse: Artifact, cpu: str) -> None:
    pixels = np.random.default_rng(0).random((5, *sparse.manifest.input_shape), np.float32)
    with open_device(f"qemu:{cpu}") as device:
        session = DeviceSession(device)
        runtime = DeviceRuntime(sparse, session)
        assert runtime.kernels is not None
        assert runtime.kernels.native
        np.testing.assert_allclose(runtime.predict(pixels), open_runtime(sparse).predict(pixels), atol=1e-4, rtol=0)
        job = Job(model_of(sparse), pixels[:1], operators=native.library_for(PLATFORM), warmup=1)
        stock = replace(job, operators=None)
        counts, again, dense = session.count(job), session.count(job), session.count(stock)
        assert abs(counts[0] - again[0]) <= 1e-3 * counts[0]
        assert counts[0] < dense[0]
        assert device.emulated


@real
@pytest.mark.parametrize("cpu", PROFILES)
def test_a_profile_claims_no_feature_that_is_not_emulated(there, cpu: str) -> None:
    runner = native.runner(PLATFORM)
    assert runner is not None
    command = [
        emulator(),
        "-cpu",
        cpu,
        "-L",
        str(Parts.found().prefix(cpu)),
        "-E",
        "LD_SHOW_AUXV=1",
        runner,
        "--hash",
        "x",
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (bits,) = (int(line.split()[1], 16) for line in shown.splitlines() if line.startswith("AT_HWCAP:"))
    assert set(PROFILES[cpu].features.split()) <= {name for bit, name in enumerate(HWCAP) if bits >> bit & 1}


@real
def test_what_fails_there_is_said_and_nothing_is_left(there) -> None:
    with open_device("qemu:cortex-a53") as device:
        assert isinstance(device, CountingTransport)
        runner = native.runner(device.platform)
        assert runner is not None
        device.push(runner, "runner")
        assert device.run(["./runner", "--shape", "1"], timeout_secs=60).returncode == 2
        with pytest.raises(DeviceError, match=r"qemu:cortex-a53: \./runner ended with exit code 2 \(runner: "):
            device.count_instructions(["./runner", "--shape", "1"], timeout_secs=60)
        with pytest.raises(DeviceError, match=r"cannot run \./nothing: no such file"):
            device.run(["./nothing"], timeout_secs=60)


@real
def test_a_damaged_set_up_is_not_used(there, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "qemu", tmp_path / "qemu", symlinks=True)
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(tmp_path))
    with (tmp_path / "qemu" / "profiles" / "cortex-a53" / "proc" / "cpuinfo").open("a") as file:
        file.write("x")
    with pytest.raises(DeviceError, match="profiles missing or damaged"), open_device("qemu:cortex-a53"):
        pass


def test_without_a_set_up_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(tmp_path))
    with pytest.raises(DeviceError, match="mobileprune devices setup qemu"), open_device("qemu:cortex-a53"):
        pass
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu" / RECORD).write_text("[1]")
    with pytest.raises(DeviceError, match="mobileprune devices setup qemu"), open_device("qemu:cortex-a76"):
        pass


@pytest.mark.parametrize("name", ["qemu", "qemu:", "qemu:cortex-a78"])
def test_unknown_processors_are_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match="choose from qemu:cortex-a53, qemu:cortex-a76"), open_device(name):
        pass


def test_a_set_up_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"qemu-aarch64 is not installed; .*apt-get and dpkg-deb are not here"):
        set_up(lambda text: None)
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_set_up_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(tmp_path))
    assert remove() is None
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu" / "thesis.txt").write_text("mine")
    assert remove() is None
    (tmp_path / "qemu" / RECORD).write_text("{}")
    assert remove() == tmp_path / "qemu"
    assert not (tmp_path / "qemu").exists()


@pytest.mark.long
@pytest.mark.skipif(bool(missing_tools()), reason="; ".join(missing_tools()) or "is there")
def test_a_set_up_from_nothing_is_kept_and_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the real package managers; skipped where they reach no registry."""
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(tmp_path))
    told: list[str] = []
    try:
        first = set_up(told.append)
    except DeviceError as error:
        pytest.skip(f"the registries are out of reach: {error}")
    assert first == [("system", False), ("runtime", False), ("profiles", False)]
    assert [text.partition(":")[0] for text in told] == ["system", "runtime", "profiles"]
    assert set_up(told.append) == [("system", True), ("runtime", True), ("profiles", True)]
    library = next((tmp_path / "qemu" / "runtime").iterdir())
    os.truncate(library, 1000)
    assert set_up(told.append) == [("system", True), ("runtime", False), ("profiles", True)]
    with open_device("qemu:cortex-a53") as device:
        assert device.runtime is not None
        assert device.runtime.stat().st_size > 1000
    assert remove() == tmp_path / "qemu"


@real
@pytest.mark.long
def test_the_attack_on_500_and_500_samples(there, store: Path, tmp_path: Path) -> None:
    """Another instruction set rounds otherwise, and the attacks do not care."""
    ctx = mobileprune.context(store)
    options = {"members": 500, "method": "magnitude", "sparsity": 0.9, "kernels": "native", "epochs": 30}
    artifact = mobileprune.export(tmp_path / "out", ctx=ctx, **options).artifact
    value = mobileprune.attack(artifact.path, ctx=ctx, device="qemu:cortex-a76").to_dict()
    found, counts = value["on_device"], value["data"]["counts"]
    assert counts["members"] == counts["held_out"] == 500
    assert found["examples"] == 1000
    assert found["top1_differ"] == 0
    assert found["largest_difference"] < 1e-4
    assert all(abs(e["value"]) < 0.002 for attacks in found["auc_difference"].values() for e in attacks.values())


@real
def test_the_command_counts_and_shows_no_milliseconds(there, command, sparse: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = command("bench", sparse.path, "--device", "qemu:cortex-a53", "--json", path)
    assert done.code == 0, done
    value = json.loads(path.read_text())
    assert value["artifact"]["instructions"] < value["baseline"]["instructions"]
    assert value["artifact"]["latency_ms"] is None
    assert value["speedup"] is None
    assert "instructions" in done.out
    assert not re.search(r"\d ms|latency", done.out)
