"""A run that is killed, anywhere, continues and ends as one that was not; nothing half-written is ever visible."""

from __future__ import annotations

import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import safetensors

from mobileprune.artifact import Artifact
from mobileprune.cli.progress import Console

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_bench")]
COMMAND = [sys.executable, "-m", "mobileprune.cli.main"]
DATA = ("--members", "60", "--seed", "1")
STAGES = {
    "training": ("train", *DATA, "--epochs", "200"),
    "ADMM": (
        "prune",
        *DATA,
        "--epochs",
        "1",
        "--prune-epochs",
        "6",
        "--defense",
        "minmax:0.1",
        "--retrain-epochs",
        "1",
    ),
    "retraining": ("prune", *DATA, "--epochs", "1", "--prune-epochs", "1", "--retrain-epochs", "100"),
}

ANNOUNCED = "import sys; from mobileprune.cli.main import main; print('ready', flush=True); sys.exit(main())"
"""Before that Python itself is starting, which answers Ctrl-C in its own way."""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the real command in ``tmp_path`` with the run store ``runs``; a checkpoint after every epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILEPRUNE_RUNS", "runs")
    running: list[subprocess.Popen[str]] = []

    def run(*argv: str) -> subprocess.Popen[str]:
        env = os.environ | {"MOBILEPRUNE_CHECKPOINT_SECS": "0"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # Whoever runs the tests in the background ignores SIGINT, and children inherit that.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        running.append(subprocess.Popen([*COMMAND, *argv], env=env, preexec_fn=heed, **pipes))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


def wait_for(pattern: str, process: subprocess.Popen[str]) -> Path:
    """The first file of the run store that fits, while the process runs."""
    while process.poll() is None:
        if found := next(Path("runs").glob(pattern), None):
            return found
        time.sleep(0.001)
    raise AssertionError(f"ended before {pattern} appeared: {process.communicate()}")


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.startswith(".") or p.parent.name == "partial"]


def weights_sha256(folder: Path) -> str:
    return str(json.loads((folder / "model.json").read_bytes())["weights_sha256"])


def test_an_interrupted_command_says_so_and_ends_with_130(start) -> None:
    process = start("train", *DATA, "--epochs", "2000", "-o", "out")  # a busy machine may be slow to interrupt it
    wait_for("partial/*/training.safetensors", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == "mobileprune: interrupted; the same command continues where it stopped\n"
    assert not Path("out").exists()


@pytest.mark.long
def test_an_interrupted_command_ends_soon_whatever_it_is_at(tmp_path: Path) -> None:
    """Within 2 s, the process included. The median over all moments, of which some come while torch is imported and
    some while the exporter is at work: another program that takes the processor for a second does not decide."""
    taken = []
    for moment in (0.3, 0.7, 1.5, 2.5, 4, 6, 8, 10):
        line = ["export", *STAGES["training"][1:], "-o", "out", "--runs", f"runs{moment}", "-q"]
        command = [sys.executable, "-c", ANNOUNCED, *line]
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=tmp_path, preexec_fn=heed, **pipes) as process:
            assert process.stdout.readline() == "ready\n"
            try:
                process.communicate(timeout=moment)
                break  # all was done before that moment
            except subprocess.TimeoutExpired:
                asked = time.monotonic()
                process.send_signal(signal.SIGINT)
            _, err = process.communicate()
            taken.append(time.monotonic() - asked)
        assert process.returncode == 130, (moment, err)
        assert err == "mobileprune: interrupted; the same command continues where it stopped\n"
    assert len(taken) > 4
    assert statistics.median(taken) < 2, taken


@pytest.mark.parametrize("stage", ["training", "ADMM", pytest.param("retraining", marks=pytest.mark.long)])
def test_a_stage_continues_where_it_was_killed(start, command, monkeypatch, store, tmp_path, stage) -> None:
    process = start(*STAGES[stage], "-o", "out")
    checkpoint = wait_for(f"partial/*/{stage}.safetensors", process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("out").exists()
    with safetensors.safe_open(checkpoint, framework="np") as file:
        done = int(json.loads(file.metadata()["epochs_done"]))

    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(Console, "progress", lambda self, *heard: seen.append(heard))
    assert command(*STAGES[stage], "-o", "out").code == 0
    assert seen[0][:2] == (stage, done + 1)
    assert leftovers(tmp_path) == []
    assert command(*STAGES[stage], "-o", "whole", "--runs", store).code == 0
    assert weights_sha256(Path("out")) == weights_sha256(Path("whole"))


@pytest.mark.parametrize("at", ["train/[!.]*", "export/.*"], ids=["between steps", "inside export"])
def test_an_export_continues_after_a_kill(start, command, artifacts, tiny, tmp_path, at) -> None:
    process = start("export", *tiny, "-o", "out")
    wait_for(at, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("out").exists()
    done = command("export", *tiny, "-o", "out", "--json", "-")
    assert json.loads(done.out)["steps"][0]["reused"], "the training that was done is not done again"
    assert leftovers(tmp_path) == []
    assert Artifact.load(Path("out")).manifest.sha256 == Artifact.load(artifacts["onnx"]).manifest.sha256


SNAPSHOTS = """
import importlib, os, shutil, sys
from mobileprune.cli.main import main
bench = importlib.import_module("mobileprune.bench")
bench.peak_load_memory = lambda command: bench.Memory(None, None)
place, *lines = sys.argv[1:]
here, busy = os.getcwd(), False
def before(event, args):
    global busy
    if busy or event not in ("os.rename", "shutil.rmtree"):
        return
    path = os.fsdecode(args[event == "os.rename"])
    if event == "shutil.rmtree" and not os.path.exists(path):
        return
    name = os.path.relpath(os.path.abspath(path), here).split(os.sep)[0]
    if name != ".." and (name != "runs" or not os.path.exists("out")):
        busy = True
        shutil.copytree(here, f"{place}/{which}-{len(os.listdir(place)):03d}")
        busy = False
sys.addaudithook(before)
for which, line in enumerate(lines):
    assert main(line.split()) == 0
    shutil.copytree("out", f"{place}/whole-{which}")
"""
FINAL = {"card.html", "manifest.json", "model.ptl", "report.html", "report.json", "report.md"}


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.long)])
def test_every_state_that_a_kill_can_leave_is_whole_and_continues(
    start, command, monkeypatch, tiny, tmp_path_factory, every
) -> None:
    """Files appear by renaming only and folders go by one call, so what lies there before each is what a kill leaves.

    First an export into nothing, then one with --force over it; the process that left the states is dead. (Of the
    run store, the states after the output has appeared are left out for time: they are of the same code.) All are
    looked at; of all, or one in six and the last, the command goes on.
    """
    first = ["export", "-q", *tiny, "--canaries", "0", "--target", "torchscript-lite", "-o", "out"]
    lines = [first, [*first, "--force", "--sparsity", "0.5"]]
    place = tmp_path_factory.mktemp("states")
    env = os.environ | {"MOBILEPRUNE_CHECKPOINT_SECS": "0"}
    argv = [sys.executable, "-c", SNAPSHOTS, place, *map(" ".join, lines)]
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    measured = importlib.import_module("mobileprune.bench").bench(Artifact.load(place / "whole-0"), min_secs=0)
    monkeypatch.setattr(importlib.import_module("mobileprune.api"), "run_bench", lambda *_, **__: measured)
    for which, least in enumerate([25, 6]):
        sha256 = Artifact.load(place / f"whole-{which}").manifest.sha256
        states = sorted(place.glob(f"{which}-*"))
        assert len(states) >= least
        for state in (state for state in states if (state / "out").exists()):
            assert {name for name in os.listdir(state / "out") if not name.startswith(".")} <= FINAL
            Artifact.load(state / "out")
        for state in states[::-every]:
            monkeypatch.chdir(state)
            done = command(*lines[which])
            assert done.code == 0, (state.name, done.err)
            assert leftovers(state) == [], state.name
            assert set(os.listdir("out")) == FINAL
            assert Artifact.load(Path("out")).manifest.sha256 == sha256, state.name
