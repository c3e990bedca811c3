"""Converters in a process of their own, and what is said when an extra is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mobileprune.errors import MobilepruneError, TargetUnavailableError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.converter import require, run
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

NEEDED = {
    "litert": ("litert_torch", "ai_edge_litert"),
    "mnn": ("MNN", "_tools"),
    "executorch": ("executorch", "torchao"),
}


def test_targets_say_what_their_extras_bring() -> None:
    assert {name: target.needs for name, target in TARGETS.items() if target.needs} == NEEDED


def test_what_it_printed_comes_back_and_its_modules_are_not_loaded_here() -> None:
    assert run("X", "import sys, mailbox; print('hello', *sys.argv[1:])", "a", "b c").split() == [
        "hello",
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('too odd')", "X cannot convert this model: ValueError: too odd"),
        ("import os; os.abort()", "X cannot convert this model: "),
        ("import sys; sys.exit(3)", "X cannot convert this model: it crashed without a word"),
    ],
)
def test_failures_give_its_last_words(code: str, words: str) -> None:
    with pytest.raises(MobilepruneError, match=words):
        run("X", code)


def test_modules_of_the_working_directory_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MobilepruneError, match="No module named 'planted'"):
        run("X", "import planted")


def test_a_missing_package_is_named_with_the_command() -> None:
    require("mnn", "os", "torch")
    with pytest.raises(TargetUnavailableError, match=r"needs no_such_thing, .*pip install 'mobileprune\[mnn\]'"):
        require("mnn", "os", "no_such_thing")


@pytest.mark.parametrize("target", NEEDED)
def test_without_the_extra_neither_writing_nor_opening_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    for name in NEEDED[target]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("mobileprune.export.converter.find_spec", lambda name: None)
    for action in (
        lambda: TARGETS[target].write(nn.Flatten(), (1, 2, 2), tmp_path / "m", ExportOptions()),
        lambda: RUNTIMES[target](tmp_path / "m", RuntimeOptions(1, "input", (1, 2, 2))),
    ):
        with pytest.raises(TargetUnavailableError, match=rf"pip install 'mobileprune\[{target}\]'") as caught:
            action()
        assert caught.value.exit_code == 5
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("target", NEEDED)
def test_writing_runs_no_pip_and_loads_no_converter_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """MNN's own front end runs ``pip install`` when it is imported."""
    require_or_skip(target)
    tools, ran = tmp_path / "tools", tmp_path / "pip-ran"
    tools.mkdir()
    for name in ("pip", "pip3"):
        (tools / name).write_text(f"#!/bin/sh\ntouch '{ran}'\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    TARGETS[target].write(model, (1, 2, 2), tmp_path / "m", ExportOptions())
    RUNTIMES[target](tmp_path / "m", RuntimeOptions(1, "input", (1, 2, 2)))
    assert not ran.exists()
    assert not {"jax", "litert_torch", "MNN.tools"} & {name for name, module in sys.modules.items() if module}


def require_or_skip(target: str) -> None:
    try:
        require(target, *NEEDED[target])
    except TargetUnavailableError as error:
        pytest.skip(str(error))


def test_a_missing_extra_is_said_before_any_work(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target, modules in NEEDED.items():
        for name in modules:
            monkeypatch.setitem(sys.modules, name, None)
        done = command("export", "--target", target, "-o", tmp_path / "out", "--runs", tmp_path / "runs")
        assert (done.code, f"pip install 'mobileprune[{target}]'" in done.err) == (5, True), done
        assert not list(tmp_path.iterdir())
