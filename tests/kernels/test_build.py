"""The build hook: a wheel with the library where CMake and a compiler are, a pure one with the reason where not."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mobileprune.devices.elf import machine_of
from mobileprune.native import FILES, LIBRARY, RUNNER, SWITCH, VERSION

FILE = FILES.get(sys.platform, LIBRARY)
COUNTER = ["libmobileprune_count.so"] if sys.platform == "linux" else []  # for QEMU
INTERFACE = "hatchling.builders.hooks.plugin.interface"
NO_CMAKE = "cmake is not installed"


class App:
    """What hatch gives a hook to speak with."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


class Interface:
    """The part of hatch's interface that the hook uses."""

    def __init__(self, root: Path, target_name: str) -> None:
        self.root, self.target_name, self.app = str(root), target_name, App()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, sources: Path) -> Any:
    """The module of the hook, over our interface, whether hatch is installed or not."""
    parts = INTERFACE.split(".")
    for at in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:at]), types.ModuleType(".".join(parts[:at])))
    monkeypatch.setattr(sys.modules[INTERFACE], "BuildHookInterface", Interface, raising=False)
    spec = importlib.util.spec_from_file_location("build_hook", sources / "build_hook.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path, sources: Path) -> Path:
    """A source tree in which an older build has left a library."""
    shutil.copytree(sources, tmp_path / "export")
    cmake = tmp_path / "export" / "CMakeLists.txt"
    cmake.write_text(cmake.read_text().replace("-O3", "-O1"))  # faster; -O0 is where zig adds sanitizers
    (tmp_path / "mobileprune" / "_native").mkdir(parents=True)
    (tmp_path / "mobileprune" / "_native" / FILE).write_text("old")
    return tmp_path


@pytest.fixture
def tools(compiler: str) -> None:
    if not shutil.which("cmake"):
        pytest.skip("no cmake on PATH")


def build(hook: Any, root: Path, target: str = "wheel") -> tuple[dict[str, Any], list[str]]:
    """Build data after the hook, and its warnings."""
    data: dict[str, Any] = {"pure_python": True, "tag": "", "artifacts": []}
    made = hook.NativeOperators(root, target)
    made.initialize("standard", data)
    return data, made.app.warnings


def is_pure(data: dict[str, Any], root: Path) -> bool:
    left = (root / "mobileprune" / "_native").exists()
    return data == {"pure_python": True, "tag": "", "artifacts": []} and not left


def test_the_library_is_built_and_the_wheel_is_for_this_platform(tools: None, hook: Any, root: Path) -> None:
    data, warnings = build(hook, root)
    assert warnings == []
    assert data["pure_python"] is False
    assert data["tag"] == f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    assert data["artifacts"] == ["mobileprune/_native/**"]
    assert {path.name for path in (root / "mobileprune" / "_native").iterdir()} == {FILE, RUNNER, *COUNTER}
    assert ctypes.CDLL(str(root / "mobileprune" / "_native" / FILE)).mp_version() == VERSION


def test_nothing_is_built_unasked(monkeypatch: pytest.MonkeyPatch, hook: Any, root: Path) -> None:
    monkeypatch.setenv(SWITCH, "off")
    data, warnings = build(hook, root)
    assert is_pure(data, root)
    assert warnings == []


@pytest.mark.parametrize("mode", ["auto", "require", "off"])
def test_an_sdist_leaves_the_library_of_an_editable_install(
    monkeypatch: pytest.MonkeyPatch, hook: Any, root: Path, mode: str
) -> None:
    monkeypatch.setenv(SWITCH, mode)
    data, warnings = build(hook, root, "sdist")
    assert (data, warnings) == ({"pure_python": True, "tag": "", "artifacts": []}, [])
    assert (root / "mobileprune" / "_native" / FILE).read_text() == "old"


def test_without_cmake_the_wheel_is_pure_and_says_why(
    monkeypatch: pytest.MonkeyPatch, hook: Any, root: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    data, warnings = build(hook, root)
    assert is_pure(data, root)
    assert warnings == [f"mobileprune without native sparse operators and device runner: {NO_CMAKE}"]


def test_require_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch, hook: Any, root: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(SWITCH, "require")
    with pytest.raises(SystemExit, match=f"{SWITCH}=require: {NO_CMAKE}"):
        build(hook, root)


@pytest.mark.long
def test_other_platforms_are_built_into_folders_of_their_names(
    monkeypatch: pytest.MonkeyPatch, tools: None, hook: Any, root: Path
) -> None:
    if not (shutil.which("zig") or shutil.which("python-zig")):
        pytest.skip("no zig on PATH (pip install ziglang)")
    monkeypatch.setenv("MOBILEPRUNE_CROSS", "linux-aarch64,linux-armv7")
    build(hook, root)
    for platform, machine in {"linux-aarch64": "aarch64", "linux-armv7": "arm"}.items():
        folder = root / "mobileprune" / "_native" / platform
        assert {machine_of(folder / name) for name in (LIBRARY, RUNNER)} == {machine}


def test_another_platform_that_cannot_be_built_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tools: None, hook: Any, root: Path
) -> None:
    monkeypatch.setenv("MOBILEPRUNE_CROSS", "linux-vax")
    with pytest.raises(SystemExit, match=r"MOBILEPRUNE_CROSS=linux-vax: .*linux-vax"):
        build(hook, root)


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_a_compiler_s_complaint_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, tools: None, hook: Any, root: Path, mode: str
) -> None:
    monkeypatch.setenv(SWITCH, mode)
    (root / "export" / "kernels" / "layer.c").write_text("#error of_the_test\n")
    (root / "export" / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(p C)\nadd_library(p SHARED kernels/layer.c)\n"
    )
    if mode == "require":
        with pytest.raises(SystemExit, match="of_the_test"):
            build(hook, root)
    else:
        data, (warning,) = build(hook, root)
        assert "of_the_test" in warning
        assert is_pure(data, root)


def test_another_mode_is_refused(monkeypatch: pytest.MonkeyPatch, hook: Any, root: Path) -> None:
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(SystemExit, match=f"{SWITCH}=yes: must be one of auto, require, off"):
        build(hook, root)


def wheel(tmp_path: Path, root: Path, **environment: str) -> zipfile.ZipFile:
    """By hatch itself, from the sources of this checkout."""
    if not importlib.util.find_spec("hatchling"):
        pytest.skip("no hatchling installed beside mobileprune")
    for name in ("mobileprune", "export"):
        shutil.copytree(root / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("_native", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path / "tree")
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(
        argv, cwd=tmp_path / "tree", env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = (tmp_path / "dist").iterdir()
    return zipfile.ZipFile(made)


def tag_of(made: zipfile.ZipFile) -> str:
    (name,) = (name for name in made.namelist() if name.endswith(".dist-info/WHEEL"))
    lines = made.read(name).decode().splitlines()
    return next(line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: "))


@pytest.mark.long
def test_a_wheel_carries_the_library(tmp_path: Path, tools: None, sources: Path) -> None:
    with wheel(tmp_path, sources.parent, **{SWITCH: "require"}) as made:
        assert tag_of(made).startswith("py3-none-")
        assert tag_of(made) != "py3-none-any"
        made.extract(f"mobileprune/_native/{FILE}", tmp_path)
        assert not any(name.startswith("export") for name in made.namelist())
    assert ctypes.CDLL(str(tmp_path / "mobileprune" / "_native" / FILE)).mp_version() == VERSION


@pytest.mark.long
def test_a_wheel_without_is_for_any_platform(tmp_path: Path, sources: Path) -> None:
    with wheel(tmp_path, sources.parent, **{SWITCH: "off"}) as made:
        assert tag_of(made) == "py3-none-any"
        assert not any("_native" in name for name in made.namelist())
