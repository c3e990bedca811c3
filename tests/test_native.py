"""The native library is taken where it is, fits and is wanted; everywhere else there is a reason and a way out."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mobileprune import native
from mobileprune.native import FILES, SWITCH, VERSION, library, reason


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the library would be."""
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(native, "_PATH", tmp_path / "library")
    return tmp_path / "library"


def shared(path: Path, text: str) -> None:
    """A library of the C program ``text``."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler on PATH")
    subprocess.run([compiler, "-shared", "-fPIC", "-xc", "-", "-o", path], input=text, text=True, check=True)


def test_none_was_built(place: Path) -> None:
    assert library() is None
    assert "were not built" in reason()
    assert f"{SWITCH}=require" in reason()


def test_of_this_version(place: Path) -> None:
    shared(place, f"int mp_version(void) {{ return {VERSION}; }}")
    assert library() == place
    assert reason() == ""


@pytest.mark.parametrize(
    ("text", "found"), [(f"int mp_version(void) {{ return {VERSION + 1}; }}", VERSION + 1), ("int other;", 0)]
)
def test_of_another_version(place: Path, text: str, found: int) -> None:
    shared(place, text)
    assert library() is None
    assert f"version {found}, this package needs {VERSION}" in reason()


def test_for_another_machine(place: Path) -> None:
    place.write_bytes(b"\x7fELF of another processor")
    assert library() is None
    assert "another kind of machine" in reason()
    assert str(place) not in reason()  # reasons end up in reports


def test_switched_off(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    shared(place, f"int mp_version(void) {{ return {VERSION}; }}")
    monkeypatch.setenv(SWITCH, "off")
    assert library() is None
    assert reason() == f"{SWITCH} is off"


def test_the_files_of_all_systems_are_those_that_cmake_makes() -> None:
    text = (Path(__file__).parents[1] / "export" / "CMakeLists.txt").read_text()
    assert "add_library(mobileprune_ops SHARED" in text
    assert {name.removeprefix("lib").split(".")[0] for name in (native.LIBRARY, *FILES.values())} == {"mobileprune_ops"}


def test_what_other_platforms_need_lies_in_folders_of_their_names(place: Path) -> None:
    other = place.parent / "linux-vax"
    other.mkdir()
    for folder in (place.parent, other):
        (folder / native.RUNNER).write_text("")
        (folder / native.LIBRARY).write_text("")
    assert native.runner(native.this_platform()) == place.parent / native.RUNNER
    assert native.runner("linux-vax") == other / native.RUNNER
    assert native.runner("linux-pdp11") is None
    assert native.library_for("linux-vax") == other / native.LIBRARY
    assert native.library_for("linux-pdp11") is None


def test_switched_off_is_switched_off_for_devices_too(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place.parent / "linux-vax").mkdir()
    (place.parent / "linux-vax" / native.LIBRARY).write_text("")
    monkeypatch.setenv(SWITCH, "off")
    assert native.library_for("linux-vax") is None
    assert native.library_for(native.this_platform()) is None


@pytest.mark.parametrize(
    ("system", "machine", "expected"),
    [
        ("linux", "x86_64", "linux-x86_64"),
        ("linux", "aarch64", "linux-aarch64"),
        ("linux", "armv7l", "linux-armv7"),
        ("darwin", "arm64", "macos-arm64"),
        ("darwin", "x86_64", "macos-x86_64"),
        ("win32", "AMD64", "win32-x86_64"),
    ],
)
def test_platforms_are_named_as_presets_are(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, expected: str
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert native.this_platform() == expected
    presets = json.loads((Path(__file__).parents[1] / "export" / "CMakePresets.json").read_text())
    names = {preset["name"] for preset in presets["configurePresets"]}
    assert expected in names or system == "win32"
