"""Layers and blocks from random bytes under sanitizers of memory and of threads, each held against the definition."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COUNT = {"address,undefined": 20_000, "thread": 4_000}
BROKEN = ("w[((o * channels + i)", "-w[((o * channels + i)")


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=False, timeout=600)


def flags_of(sanitizers: str) -> str:
    return f"-O1 -g -pthread -fsanitize={sanitizers} -fno-sanitize-recover=all"


@pytest.fixture(scope="module", params=COUNT)
def sanitizers(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, compiler: str, sources: Path, sanitizers: str) -> Path:
    """A folder with the library, built as it always is but for the sanitizers."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake on PATH")
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "probe.c").write_text("int main(void) { return 0; }\n")
    probe = [compiler, *flags_of(sanitizers).split(), folder / "probe.c", "-o", folder / "probe"]
    if run(*probe).returncode or run(folder / "probe").returncode:
        pytest.skip(f"{compiler} has no -fsanitize={sanitizers} here")
    flags = [
        f"-DCMAKE_C_COMPILER={compiler}",
        f"-DCMAKE_C_FLAGS={flags_of(sanitizers)}",
        "-DCMAKE_BUILD_TYPE=Sanitized",
    ]
    for command in (["-S", sources, "-B", folder, *flags], ["--build", folder, "--parallel", "2"]):
        done = run("cmake", *command)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def fuzz(compiler: str, built: Path, sources: Path, sanitizers: str) -> Path:
    return target(compiler, built, sources, sanitizers)


def target(
    compiler: str, built: Path, sources: Path, sanitizers: str, change: tuple[str, str] = ("", ""), name: str = "fuzz"
) -> Path:
    """The fuzzer, in whose header ``change`` (from, to) is made."""
    kernels = sources / "kernels"
    header = (kernels / "fuzz.h").read_text()
    assert change[0] in header
    (built / "fuzz.h").write_text(header.replace(*change))
    shutil.copy(kernels / "fuzz.c", built)
    flags = [*flags_of(sanitizers).split(), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DFUZZ_MAIN", f"-I{kernels}"]
    links = [f"-L{built}", "-lmobileprune_ops", f"-Wl,-rpath,{built}", "-lm"]
    done = run(compiler, *flags, built / "fuzz.c", "-o", built / name, *links)
    assert done.returncode == 0, done.stderr[-2000:]
    return built / name


@pytest.mark.long
def test_random_layers_and_blocks_are_right_and_stay_in_their_buffers(fuzz: Path, sanitizers: str) -> None:
    count = COUNT[sanitizers]
    done = run(fuzz, 0, count)
    assert done.returncode == 0, done.stderr[-3000:]
    _, layers, _, blocks, _, kernels = done.stdout.split()
    assert int(layers) > count // 3
    assert int(blocks) > count // 8
    assert int(kernels) > int(layers) + int(blocks)


@pytest.mark.long
def test_files_are_run(fuzz: Path, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\x01")
    (tmp_path / "empty").write_bytes(b"")
    assert run(fuzz, tmp_path / "short", tmp_path / "empty").stdout.startswith("layers ")


@pytest.mark.long
def test_another_definition_would_be_told(compiler: str, built: Path, sources: Path, sanitizers: str) -> None:
    broken = target(compiler, built, sources, sanitizers, BROKEN, "broken")
    told = "".join(run(broken, seed, 1).stderr for seed in range(20))
    assert "a number is wrong; layer:" in told
    assert "a number is wrong; block:" in told
