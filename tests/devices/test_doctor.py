"""``mobileprune devices``: what is listed, what the doctor finds, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import adbd, sshd

import mobileprune
from mobileprune import native
from mobileprune.devices import DEVICES, doctor
from mobileprune.devices.base import Done
from mobileprune.devices.local import NullTransport
from mobileprune.devices.profiles import PROFILES
from mobileprune.schemas import problems

BUILT = native.runner(native.this_platform()) is not None


@pytest.fixture(autouse=True)
def nothing_attached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No adb and no ssh of the user's is asked, and no set-up of theirs is looked at."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MOBILEPRUNE_DEVICES", str(tmp_path / "devices"))


def test_the_list_names_every_kind_and_what_is_missing(command) -> None:
    done = command("devices", "--json", "-")
    value = json.loads(done.out)
    assert (done.code, problems(value, "devices")) == (0, [])
    says = {entry["name"]: entry for entry in value["entries"]}
    assert list(says) == ["local", *(f"qemu:{cpu}" for cpu in PROFILES), "adb", "ssh://USER@HOST"]
    assert [says[name]["ready"] for name in says] == [True, False, False, False, False]
    assert "apt-get install qemu-user" in says["qemu:cortex-a53"]["says"]
    assert "apt-get install adb" in says["adb"]["says"]
    shown = command("devices").out
    assert all(name in shown for name in says)


@pytest.mark.skipif(not BUILT, reason="the runner was not built: it needs CMake and a C compiler")
def test_the_doctor_runs_an_inference_here(command) -> None:
    done = command("devices", "doctor", "local", "--json", "-")
    value = json.loads(done.out)
    assert (done.code, value["ready"], problems(value, "devices")) == (0, True, [])
    assert [entry["name"] for entry in value["entries"]] == ["connection", *doctor.CHECKS, "clean-up"]
    assert "ONNX Runtime" in value["entries"][-2]["says"]


def test_the_doctor_stops_at_what_fails_and_the_exit_code_is_5(command) -> None:
    done = command("devices", "doctor", "ssh://host")
    assert done.code == 5
    assert "connection" in done.out
    assert "ssh is not installed" in done.out


@pytest.mark.parametrize(
    ("platform", "said", "check", "words"),
    [
        ("linux-riscv64", "Filesystem 1024-blocks\nx 9 9 900000 1% /\n", "runner", "no runner for linux-riscv64"),
        ("linux-aarch64", "Filesystem 1024-blocks\nx 9 9 9000 1% /\n", "space", "only 8 MiB are free"),
    ],
)
def test_what_a_device_lacks(monkeypatch: pytest.MonkeyPatch, platform: str, said: str, check: str, words: str) -> None:
    def made(name: str) -> NullTransport:
        return NullTransport(lambda command, folder: Done(0, said, ""), name=name, platform=platform)

    monkeypatch.setitem(DEVICES, "null", made)
    found = mobileprune.devices("doctor", "null")
    assert not found.ready
    (failed,) = (entry for entry in found.entries if not entry.ready)
    assert failed.name == check
    assert words in failed.says
    assert found.entries[-1].name == "clean-up"


@pytest.mark.parametrize(
    "argv",
    [
        ("list", "local"),
        ("doctor",),
        ("setup",),
        ("setup", "adb"),
        ("remove", "local"),
        ("doctor", "toaster"),
        ("setup", "qemu", "--device-runtime", "x"),
    ],
)
def test_wrong_usage(command, argv: tuple[str, ...]) -> None:
    done = command("devices", *argv)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("mobileprune: error: ")


def test_a_set_up_that_cannot_be_made(command) -> None:
    done = command("devices", "setup", "qemu")
    assert (done.code, done.out) == (5, "")
    assert "qemu-aarch64 is not installed" in done.err


def test_nothing_to_remove(command) -> None:
    done = command("devices", "remove", "qemu")
    assert (done.code, done.err) == (0, "")
    assert "not there" in done.out


@pytest.mark.skipif(not (sshd.AVAILABLE and BUILT), reason=f"{sshd.REASON}, and the runner")
def test_the_doctor_over_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    with sshd.server(tmp_path) as server:
        monkeypatch.setenv("PATH", server.path)
        found = mobileprune.devices("doctor", server.name)
    assert found.ready, found.entries
    assert [entry.name for entry in found.entries] == ["connection", *doctor.CHECKS, "clean-up"]


@pytest.mark.skipif(not (adbd.AVAILABLE and BUILT), reason=f"{adbd.REASON}, and the runner")
def test_the_list_and_the_doctor_over_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    with adbd.phone(tmp_path) as phone:
        monkeypatch.setenv("PATH", phone.path)
        serial = phone.attach()
        listed = {entry.name: entry for entry in mobileprune.devices("list").entries}
        found = mobileprune.devices("doctor", f"adb:{serial}")
    assert listed[f"adb:{serial}"].ready
    assert found.ready, found.entries
    assert [entry.name for entry in found.entries] == ["connection", *doctor.CHECKS, "clean-up"]
