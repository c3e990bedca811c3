"""Progress and log lines on stderr: a bar on a terminal, one line a step elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mobileprune.errors import printable
from mobileprune.runs import StepResult
from mobileprune.sweep.clock import in_words

if TYPE_CHECKING:  # it brings torch, which costs a second
    from mobileprune.sweep.run import Heard

WORDS = {
    "train": "train",
    "prune": "prune",
    "adopt": "take over the model",
    "export": "convert, export, check parity",
    "query": "ask for outputs",
    "reference": "make a reference model",
    "measure": "attack and judge",
    "crossfit": "train the models of the folds",
    "baseline": "export and attack the dense model",
    "point": "export and attack",
    "timing": "time",
}
WIDTH = 50
"""Of what is done and to what, in characters."""
NAMED = 2
"""Changed keys that a line names; of more it says how many."""
MANY = 8
"""Of more changed keys none is named: it is another run."""


class _Stderr(RichConsole):
    def on_broken_pipe(self) -> None:
        """Nobody reads it any longer (``2>&1 | head``): no reason to end the work, as rich would."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Console:
    def __init__(self, *, quiet: bool) -> None:
        self._console = _Stderr(stderr=True, quiet=quiet, highlight=False)
        columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._kinds: set[str] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def progress(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done)

    def step(self, step: StepResult) -> None:
        for task in self._tasks.values():
            self._bar.remove_task(task)
        self._tasks.clear()
        state = "reused" if step.reused else f"{step.seconds:.1f} s"
        # Of several steps of a kind each differs from the one before: only the first tells of an earlier run.
        why = "" if step.step in self._kinds else why_new(step.changed)
        self._kinds.add(step.step)
        line = f"{titled(step.step, step.of):<{WIDTH}} {state:>8}  {step.key[:12]}  {why}"
        self._console.print(line.rstrip(), markup=False, soft_wrap=True)

    def wait(self, step: str, of: str) -> None:
        line = f"{titled(step, of)}: another process is at it; waiting for it"
        self._console.print(line, markup=False, soft_wrap=True)

    def task(self, heard: Heard) -> None:
        """One more task of a sweep is done; what no work was needed for says nothing."""
        if heard.error:
            self._console.print(f"{titled(heard.kind, heard.of)}: failed: {heard.error}", markup=False, soft_wrap=True)
        elif not heard.reused:
            left = "" if heard.seconds_left is None else f"about {in_words(heard.seconds_left)} left"
            task = f"{heard.done:>5}/{heard.total}  {titled(heard.kind, heard.of):<{WIDTH}}"
            line = f"{task} {heard.seconds:>7.1f} s  {left}"
            self._console.print(line.rstrip(), markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(text)


def titled(step: str, of: str) -> str:
    """
    >>> titled("query", "dense baseline")
    'ask for outputs: dense baseline'
    """
    return printable(f"{WORDS.get(step, step)}: {of}" if of else WORDS.get(step, step))


def why_new(changed: tuple[str, ...]) -> str:
    """For a step that had to be computed although others like it are there.

    >>> why_new(("inputs.config.train.epochs",))
    '(new: inputs.config.train.epochs differs)'
    >>> why_new(("inputs.a", "inputs.b", "source", "versions.torch"))
    '(new: inputs.a, inputs.b and 2 more differ)'
    """
    if not 0 < len(changed) <= MANY:
        return ""
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return f"(new: {', '.join(changed[:NAMED])}{more} {'differs' if len(changed) == 1 else 'differ'})"
