"""Layers and blocks from random bytes under AddressSanitizer and UBSan, each held against the definition."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COUNT = 20_000
SANITIZERS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
BROKEN = ("w[((o * channels + i)", "-w[((o * channels + i)")


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, compiler: str, sources: Path) -> Path:
    """A folder with the library, built as it always is but for the sanitizers."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake on PATH")
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "probe.c").write_text("int main(void) { return 0; }\n")
    if run(compiler, *SANITIZERS.split(), folder / "probe.c", "-o", folder / "probe").returncode:
        pytest.skip(f"{compiler} has no AddressSanitizer here")
    flags = [f"-DCMAKE_C_COMPILER={compiler}", f"-DCMAKE_C_FLAGS={SANITIZERS}", "-DCMAKE_BUILD_TYPE=Sanitized"]
    for command in (["-S", sources, "-B", folder, *flags], ["--build", folder, "--parallel", "2"]):
        done = run("cmake", *command)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


def target(compiler: str, built: Path, sources: Path, change: tuple[str, str] = ("", "")) -> Path:
    """The fuzzer, in whose header ``change`` (from, to) is made."""
    kernels = sources / "kernels"
    header = (kernels / "fuzz.h").read_text()
    assert change[0] in header
    (built / "fuzz.h").write_text(header.replace(*change))
    shutil.copy(kernels / "fuzz.c", built)
    flags = [*SANITIZERS.split(), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DFUZZ_MAIN", f"-I{kernels}"]
    links = [f"-L{built}", "-lmobileprune_ops", f"-Wl,-rpath,{built}", "-lm"]
    done = run(compiler, *flags, built / "fuzz.c", "-o", built / "fuzz", *links)
    assert done.returncode == 0, done.stderr[-2000:]
    return built / "fuzz"


@pytest.mark.long
def test_random_layers_and_blocks_are_right_and_stay_in_their_buffers(
    compiler: str, built: Path, sources: Path
) -> None:
    done = run(target(compiler, built, sources), 0, COUNT)
    assert done.returncode == 0, done.stderr[-3000:]
    _, layers, _, blocks, _, kernels = done.stdout.split()
    assert int(layers) > COUNT // 3
    assert int(blocks) > COUNT // 8
    assert int(kernels) > int(layers) + int(blocks)


@pytest.mark.long
def test_files_are_run(compiler: str, built: Path, sources: Path) -> None:
    fuzz = target(compiler, built, sources)
    (built / "short").write_bytes(b"\x01")
    (built / "empty").write_bytes(b"")
    assert run(fuzz, built / "short", built / "empty").stdout.startswith("layers ")


@pytest.mark.long
def test_another_definition_would_be_told(compiler: str, built: Path, sources: Path) -> None:
    fuzz = target(compiler, built, sources, BROKEN)
    told = "".join(run(fuzz, seed, 1).stderr for seed in range(20))
    assert "a number is wrong; layer:" in told
    assert "a number is wrong; block:" in told
