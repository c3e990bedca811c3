"""``mobileprune devices setup qemu``: downloads what an emulated aarch64 needs, by the package managers that are there.

Nothing is installed on this machine and no root rights are needed: apt downloads a few arm64 packages into a state of
its own, dpkg-deb unpacks them, pip downloads the aarch64 wheel of the onnxruntime that is installed here. Which servers
they ask, and whom they trust, is as they are configured. A step that was done and is whole is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mobileprune.atomic import atomic_folder
from mobileprune.devices.profiles import PROFILES
from mobileprune.devices.qemu_parts import FORMAT, RECORD, Parts, check_programs, emulator
from mobileprune.errors import DeviceError, last_line
from mobileprune.files import sha256, write_json

PACKAGES = ("libc6", "libgcc-s1", "libstdc++6")
WHEEL_TAGS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
LIBRARY = "libonnxruntime.so"
TIMEOUT_SECS = 1800
Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """``make`` fills an empty folder; ``inputs``: what it is made from, so that a change of it makes it anew."""

    name: str
    says: str
    make: Callable[[Path], None]
    inputs: dict[str, Any]


def steps() -> tuple[Step, ...]:
    runtime = version("onnxruntime")
    cpus = {name: profile.cpuinfo() for name, profile in PROFILES.items()}
    wheel = f"onnxruntime {runtime} for aarch64: its wheel by pip (23 MB), of which its library is kept"
    return (
        Step("system", f"{', '.join(PACKAGES)} for arm64: by apt (3 MB) and dpkg-deb", _system, {"packages": PACKAGES}),
        Step("runtime", wheel, _runtime, {"onnxruntime": runtime}),
        Step("profiles", f"/proc/cpuinfo of {', '.join(PROFILES)}", _profiles, cpus),
    )


def missing_tools() -> list[str]:
    """What has to be installed before the set-up can begin, and how."""
    found = []
    for check in (emulator, check_programs):
        try:
            check()
        except DeviceError as error:
            found.append(str(error).removeprefix("qemu: "))
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        found.append("apt-get and dpkg-deb are not here: the set-up takes the arm64 libraries from Debian or Ubuntu")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        found.append("this Python has no pip: python -m ensurepip")
    return found


def set_up(say: Say) -> list[tuple[str, bool]]:
    """Each step, and whether it was kept from before. DeviceError names all tools that are missing, or what failed."""
    if missing := missing_tools():
        raise DeviceError(f"qemu: not set up: {'; '.join(missing)}")
    parts, done = Parts.look(), []
    for step in steps():
        kept = parts.whole(step.name) and parts.record[step.name].get("inputs") == _plain(step.inputs)
        say(f"{step.name}: {step.says}: {'kept' if kept else parts.folder / step.name}")
        if not kept:
            parts = _make(parts, step)
        done.append((step.name, kept))
    return done


def remove() -> Path | None:
    """The folder that was removed; None where there was none. A folder without our record is left alone."""
    folder = Parts.look().folder
    if not (folder / RECORD).is_file():
        return None
    shutil.rmtree(folder)
    return folder


def _plain(inputs: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in inputs.items()}


def _make(parts: Parts, step: Step) -> Parts:
    parts.folder.mkdir(parents=True, exist_ok=True)
    made = parts.folder / step.name
    with atomic_folder(made, replace=True) as temporary:
        step.make(temporary)
    files = sorted(path for path in made.rglob("*") if path.is_file() and not path.is_symlink())
    listed = {path.relative_to(parts.folder).as_posix(): sha256(path) for path in files}
    record = {**parts.record, step.name: {"inputs": _plain(step.inputs), "files": listed}}
    write_json(parts.folder / RECORD, {"format": FORMAT, "steps": record})
    return Parts(parts.folder, record)


def _system(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mobileprune-apt-") as work:
        state, packages = Path(work) / "state", Path(work) / "packages"
        for folder in (state / "lists" / "partial", state / "archives" / "partial", packages):
            folder.mkdir(parents=True)
        (state / "status").touch()
        options = {
            "Dir::State": state,
            "Dir::State::Lists": state / "lists",
            "Dir::State::status": state / "status",
            "Dir::Cache": state,
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "Acquire::Languages": "none",
        }
        apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        updated = _call([*apt, "update"], packages)  # one of several sources may fail, and another have the packages
        downloaded = _call([*apt, "download", *PACKAGES], packages)
        if downloaded.returncode:
            last = _last(downloaded) + (f" ({_last(updated)})" if updated.returncode else "")
            raise DeviceError(f"qemu: apt found no arm64 packages: {last}; its sources have to serve arm64")
        for package in sorted(packages.glob("*.deb")):
            _checked(["dpkg-deb", "--extract", str(package), str(target)], packages)
    if not (target / "lib").exists():  # newer packages leave this link to another one
        (target / "lib").symlink_to("usr/lib")


def _runtime(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mobileprune-pip-") as work:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        wanted = [text for tag in WHEEL_TAGS for text in ("--platform", tag)]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", work]
        _checked([*pip, *wanted, "--python-version", python, f"onnxruntime=={version('onnxruntime')}"], Path(work))
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(f"onnxruntime/capi/{LIBRARY}")]
            if len(names) != 1:
                raise DeviceError(f"qemu: the aarch64 wheel of onnxruntime holds no {LIBRARY}")
            with archive.open(names[0]) as source, (target / Path(names[0]).name).open("wb") as file:
                shutil.copyfileobj(source, file)


def _profiles(target: Path) -> None:
    """For each processor the system once more, by links, with its /proc/cpuinfo."""
    for cpu, profile in PROFILES.items():
        (target / cpu / "proc").mkdir(parents=True)
        (target / cpu / "proc" / "cpuinfo").write_text(profile.cpuinfo(), "ascii")
        for entry in sorted(os.listdir(target.parent / "system")):
            if entry != "proc":
                (target / cpu / entry).symlink_to(Path("..", "..", "system", entry))


def _call(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"qemu: {command[0]} did not finish within {TIMEOUT_SECS} s") from None


def _checked(command: list[str], folder: Path) -> None:
    done = _call(command, folder)
    if done.returncode:
        raise DeviceError(f"qemu: {Path(command[0]).name} failed: {_last(done)}")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """Its last line that tells of an error, else its last line."""
    lines = (done.stderr + done.stdout).splitlines()
    errors = [line for line in lines if line.startswith(("E:", "ERROR", "Err:", "dpkg-deb: error"))]
    return last_line("\n".join(errors or lines)) or "it said nothing"
