"""RunStore: computed once for the same inputs, tools and source; resumable; never half a result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from mobileprune import runs
from mobileprune.cli.progress import Console
from mobileprune.errors import MobilepruneError, ParityError, UsageError
from mobileprune.runs import KIN, RECORD, RunStore, StepResult, default_root, source_digest, tool_versions
from mobileprune.schemas import problems


class Step:
    """Writes how often it ran."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path, partial: Path) -> None:
        self.calls += 1
        (folder / "result.txt").write_text(f"run {self.calls}")


def test_a_finished_step_is_reused(tmp_path: Path) -> None:
    heard: list[StepResult] = []
    store, step = RunStore(tmp_path, heard.append), Step()
    first = store.step("train", {"a": 1, "b": 2}, step)
    again = store.step("train", {"b": 2, "a": 1}, step)
    elsewhere = RunStore(tmp_path).step("train", {"a": 1, "b": 2}, step)
    assert step.calls == 1
    assert [r.reused for r in (first, again, elsewhere)] == [False, True, True]
    assert first.path == again.path == elsewhere.path == tmp_path / "train" / first.key
    assert (first.path / "result.txt").read_text() == "run 1"
    assert store.done == heard == [first, again]
    assert first.to_dict().keys() == {"step", "of", "key", "reused", "seconds", "changed"}
    assert [problems(result.to_dict(), "step") for result in store.done] == [[], []]
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_result_says_what_went_in(tmp_path: Path) -> None:
    result = RunStore(tmp_path).step("train", {"a": [1]}, Step())
    record = json.loads((result.path / "step.json").read_text())
    assert record == {"step": "train", "inputs": {"a": [1]}, "versions": tool_versions(), "source": source_digest()}


def test_the_key_changes_with_step_inputs_versions_and_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = RunStore(tmp_path), Step()

    def key(name: str = "train", **inputs: Any) -> str:
        return store.step(name, inputs, step).key

    keys = [key(a=1), key(a=2), key(a="1"), key(b=1), key(), key("prune", a=1)]
    with monkeypatch.context() as patch:
        patch.setattr(runs, "tool_versions", lambda: tool_versions() | {"torch": "0.0"})
        keys.append(key(a=1))
    with monkeypatch.context() as patch:
        patch.setattr(runs, "source_digest", lambda: "0" * 64)
        keys.append(key(a=1))
    assert len(set(keys)) == len(keys) == step.calls
    assert all(len(k) == runs.KEY_LENGTH for k in keys)
    assert key(a=1) == keys[0]


def test_the_source_digest_covers_all_but_judging_and_showing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(runs.__file__).parent
    assert all((package / name).exists() for name in runs.JUDGING), "a name in JUDGING is stale"

    def digest_with(changed: str) -> str:
        assert (package / changed).is_file()
        copy = tmp_path / changed.replace("/", "-")
        for file in package.rglob("*.py"):
            target = copy / file.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes() + (b"#" if file == package / changed else b""))
        monkeypatch.setattr(runs, "__file__", str(copy / "runs.py"))
        return source_digest.__wrapped__()

    computing = [
        digest_with(name) for name in ("training.py", "seeding.py", "models/lenet5.py", "export/onnx/__init__.py")
    ]
    judging = [
        digest_with(name)
        for name in ("report/charts.py", "serve/app.py", "cli/parser.py", "audit/roc.py", "attacks/loss.py")
    ]
    assert set(judging) == {source_digest()}
    assert len({*computing, source_digest()}) == len(computing) + 1


def test_a_miss_says_what_changed_since_the_nearest_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = RunStore(tmp_path), Step()

    def changed(name: str = "train", **inputs: Any) -> tuple[str, ...]:
        return store.step(name, inputs, step).changed

    assert changed(config={"train": {"epochs": 3, "lr": 1}, "of": [1, 2]}, seed=0) == (), "there is none yet"
    assert changed(config={"train": {"epochs": 3, "lr": 1}, "of": (1, 2)}, seed=0) == (), "reused"
    assert changed(config={"train": {"epochs": 4, "lr": 1}, "of": [1, 2]}, seed=0) == ("inputs.config.train.epochs",)
    assert changed(config={"train": {"epochs": 4, "lr": 2}, "of": [1, 2]}, seed=0) == ("inputs.config.train.lr",)
    assert changed(config={"train": {"epochs": 3, "lr": 1.0}, "of": [1, 2]}, seed=0) == ("inputs.config.train.lr",)
    assert changed(config={"train": {"epochs": 3, "lr": 1}, "of": [1]}, seed=1) == ("inputs.config.of", "inputs.seed")
    assert changed(config={"train": {}, "of": [1, 2]}, seed=0) == (
        "inputs.config.train",
        "inputs.config.train.epochs",
        "inputs.config.train.lr",
    )
    assert changed("prune") == (), "another step is no kin"
    monkeypatch.setattr(runs, "tool_versions", lambda: tool_versions() | {"torch": "0.0"})
    assert changed("prune") == ("versions.torch",)
    monkeypatch.setattr(runs, "source_digest", lambda: "0" * 64)
    assert changed("prune") == ("source",)


def test_a_miss_looks_at_few_records_and_past_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, step = RunStore(tmp_path), Step()
    old = store.step("train", {"a": 0, "b": 0}, step)
    os.utime(old.path, (0, 0))
    for text in ("", "[]", "{", '{"a": NaN}'):
        (tmp_path / "train" / f"damaged{len(text)}").mkdir()
        (tmp_path / "train" / f"damaged{len(text)}" / RECORD).write_text(text)
    (tmp_path / "train" / "empty").mkdir()
    assert store.step("train", {"a": 1, "b": 0}, step).changed == ("inputs.a",)

    read: list[Path] = []
    real = runs.read_record
    monkeypatch.setattr(runs, "read_record", lambda path: read.append(path) or real(path))
    for a in range(2, KIN + 5):
        store.step("train", {"a": a, "b": a}, step)
    read.clear()
    assert store.step("train", {"a": 0, "b": 1}, step).changed == ("inputs.a", "inputs.b"), "the old one is too old"
    assert len(read) == KIN


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ((), ""),
        (("source",), "(new: source differs)"),
        (("inputs.a", "inputs.b"), "(new: inputs.a, inputs.b differ)"),
        (("a", "b", "c", "d"), "(new: a, b and 2 more differ)"),
    ],
)
def test_the_console_says_why_a_step_is_new(
    capsys: pytest.CaptureFixture[str], changed: tuple[str, ...], words: str
) -> None:
    Console(quiet=False).step(StepResult("train", "0123456789abcdef", Path(), False, 1.0, changed))
    assert capsys.readouterr().err.split() == ["train", "1.0", "s", "0123456789ab", *words.split()]


def test_the_console_says_what_a_step_was_done_to_and_the_key_does_not_depend_on_it(tmp_path: Path, capsys) -> None:
    """Nor can the name of a stranger's model file move the cursor."""
    console, step = Console(quiet=False), Step()
    store = RunStore(tmp_path, console.step, console.wait)
    first, second = (store.step("query", {}, step, of=of) for of in ("dense baseline", "file\x1b[2K.onnx"))
    console.wait("export", "dense lenet5, onnx")
    assert (first.key, second.reused, first.to_dict()["of"]) == (second.key, True, "dense baseline")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("  ")[0] for line in lines] == [
        "ask for outputs: dense baseline",
        "ask for outputs: file?[2K.onnx",
        "convert, export, check parity: dense lenet5, onnx: another process is at it; waiting for it",
    ]


@pytest.mark.parametrize("error", [ParityError, KeyboardInterrupt, ValueError])
def test_a_failed_step_leaves_no_result_and_keeps_its_partial_work(tmp_path: Path, error: type[BaseException]) -> None:
    store, seen = RunStore(tmp_path), []

    def compute(folder: Path, partial: Path) -> None:
        seen.append((partial / "checkpoint").exists())
        (folder / "half").write_text("half")
        (partial / "checkpoint").write_text("epoch 3")
        if len(seen) == 1:
            raise error("stop")

    with pytest.raises(error, match="stop"):
        store.step("train", {}, compute)
    assert store.done == []
    assert list((tmp_path / "train").iterdir()) == []
    result = store.step("train", {}, compute)
    assert seen == [False, True]
    assert (result.reused, (result.path / "half").read_text()) == (False, "half")
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_process_that_finished_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks do nothing, as in some shared folders."""
    ours, other = RunStore(tmp_path), RunStore(tmp_path)

    def compute(folder: Path, partial: Path) -> None:
        (folder / "result.txt").write_text("ours")
        with monkeypatch.context() as patch:
            patch.setattr(other, "_alone", lambda name, of, partial: nullcontext())
            other.step("train", {"a": 1}, Step())

    result = ours.step("train", {"a": 1}, compute)
    assert (result.path / "result.txt").read_text() == "run 1"
    assert [p.name for p in (tmp_path / "train").iterdir()] == [result.key]
    assert ours.step("train", {"a": 1}, compute).reused


WORKER = """
import sys, time
from pathlib import Path
from mobileprune.runs import RunStore

def compute(folder, partial):
    started = partial / "checkpoint"
    started.write_text(started.read_text() + "again" if started.exists() else "first")
    print("at it", flush=True)
    while sys.argv[2] == "slow" and not Path("go").exists():
        time.sleep(0.01)
    (folder / "result.txt").write_text(started.read_text())

RunStore(Path(sys.argv[1]), on_wait=lambda *said: print("wait for", *said, flush=True)).step(
    "train", {"a": 1}, compute, of="lenet5"
)
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["waits for the result", "continues when the other is killed"])
def test_two_processes_never_compute_the_same(tmp_path: Path, killed: bool) -> None:
    (tmp_path / "worker.py").write_text(WORKER)

    def start(how: str) -> subprocess.Popen[str]:
        line = [sys.executable, "worker.py", "runs", how]
        return subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    first, second = start("slow"), None
    try:
        assert first.stdout
        assert first.stdout.readline() == "at it\n"
        second = start("fast")
        assert second.stdout
        assert second.stdout.readline() == "wait for train lenet5\n"
        if killed:
            first.kill()
        else:
            (tmp_path / "go").touch()
        assert first.communicate(timeout=60)[0] == ("" if killed else "done\n")
        assert second.communicate(timeout=60)[0] == ("at it\ndone\n" if killed else "done\n")
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()
    (result,) = (tmp_path / "runs" / "train").glob("[!.]*")  # a process that is dead but not waited for seems alive
    assert (result / "result.txt").read_text() == ("firstagain" if killed else "first")
    assert list((tmp_path / "runs" / "partial").iterdir()) == []


def test_a_store_that_cannot_be_written_says_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MobilepruneError, match=r"cannot write the run store .*; choose another with --runs DIR"):
        RunStore(tmp_path / "file").step("train", {}, Step())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where no folder can be made")
def test_a_store_that_cannot_be_made_is_not_tried_for_ever() -> None:
    """The system says of it what it says of a folder that another process has just cleared away."""
    with pytest.raises(MobilepruneError, match=r"cannot write the run store .*; choose another with --runs DIR"):
        RunStore(Path("/proc/self/runs")).step("train", {}, Step())


def test_default_root_honours_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MOBILEPRUNE_RUNS", str(tmp_path / "runs"))
    assert RunStore().root == default_root() == tmp_path / "runs"
    monkeypatch.setenv("MOBILEPRUNE_RUNS", "")
    assert default_root() == tmp_path / "cache" / "mobileprune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == tmp_path / "home" / ".cache" / "mobileprune"


def test_a_user_without_a_home_is_told_what_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("MOBILEPRUNE_RUNS", str(tmp_path / "runs"))
    assert default_root() == tmp_path / "runs"
    monkeypatch.delenv("MOBILEPRUNE_RUNS")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UsageError, match=r"no home folder .* choose one with --runs DIR or MOBILEPRUNE_RUNS"):
        default_root()
