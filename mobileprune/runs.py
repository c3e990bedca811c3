"""RunStore: every step's result under the hash of what went in. Resumable, atomic, never pickle.

    ROOT/<step>/<key>/        a finished result, with ``step.json`` (its record: what went in)
    ROOT/partial/<key>/       checkpoints of a step that is running or was killed, and the lock of who is at it

``key`` is the SHA-256 of the step's name, its inputs, the versions of the tools that compute it and the
source of mobileprune's computing half: changed code never answers with a result of the old. A finished
folder appears by one rename, so a kill leaves either the whole result or a partial one to continue. Of several
processes that want the same result one computes it and the others wait; the system frees the lock of a process that
dies, and the next one continues from its checkpoints.
A result that is not there is held against its nearest kin, so that a run can say why it computes anew.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mobileprune.atomic import atomic_folder
from mobileprune.errors import MobilepruneError
from mobileprune.files import cache_folder, digest, read_regular, sha256, write_json
from mobileprune.schemas import parse

TOOLS = ("mobileprune", "torch", "torch-pruning", "onnx", "onnxruntime", "numpy")
JUDGING = (
    *("__main__.py", "api.py", "options.py", "outputs.py", "results.py", "tracking.py"),
    *("attacks", "audit", "bench", "cli", "engines", "evaluate", "inspection", "report", "serve", "sweep"),
)
"""What no step depends on: the modules that judge, show and schedule."""
KEY_LENGTH = 32
RECORD = "step.json"
MAX_RECORD_BYTES = 16 * 2**20
LOCK = "lock"
KIN = 50
"""How many of the newest records a new one is held against."""


def tool_versions() -> dict[str, str]:
    return {name: version(name) for name in TOOLS}


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Over the modules that a step's result may depend on: all but those that judge and show it."""
    package = Path(__file__).parent
    found = {file.relative_to(package): file for file in sorted(package.rglob("*.py"))}
    return digest({name.as_posix(): sha256(file) for name, file in found.items() if name.parts[0] not in JUDGING})


@lru_cache(maxsize=1)
def judging_digest() -> str:
    """Over the modules that a judgement depends on beside what its steps do."""
    package = Path(__file__).parent
    parts = ("attacks", "audit", "bench", "evaluate")
    found = (file for part in parts for file in sorted((package / part).rglob("*.py")))
    return digest({file.relative_to(package).as_posix(): sha256(file) for file in found})


def default_root() -> Path:
    """``MOBILEPRUNE_RUNS``, else the user's cache folder."""
    return cache_folder("mobileprune", "MOBILEPRUNE_RUNS", "choose one with --runs DIR or MOBILEPRUNE_RUNS")


def record_of(step: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"step": step, "inputs": inputs, "versions": tool_versions(), "source": source_digest()}


def read_record(result: Path) -> dict[str, Any] | None:
    """What went into the finished ``result``; None when its record is missing or damaged."""
    try:
        value = parse(read_regular(result / RECORD, MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def differing(record: dict[str, Any], results: Path) -> tuple[str, ...]:
    """Dotted keys in which ``record`` differs from the nearest of the newest ``KIN`` records in ``results``, sorted."""
    try:
        found = [entry for entry in os.scandir(results) if not entry.name.startswith(".")]
        newest = sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)[:KIN]
    except OSError:  # no result yet, or one removed meanwhile
        return ()
    own = set(_leaves(record))
    others = (read_record(Path(entry)) for entry in newest)
    differences = [{key for key, _ in own ^ set(_leaves(other))} for other in others if other is not None]
    return tuple(sorted(min(differences, key=len, default=())))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as JSON, where 1 is not 1.0; a list is one value."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}" if key else name)
    else:
        yield key, json.dumps(value)


@dataclass(frozen=True)
class StepResult:
    """``changed``: dotted keys of the record that differ from the nearest earlier result of the step, such as
    ``inputs.config.train.epochs`` or ``versions.torch``; empty when reused, or when there is no earlier one.
    ``of``: what the step was done to, in words; no part of the key."""

    step: str
    key: str
    path: Path
    reused: bool
    seconds: float
    changed: tuple[str, ...] = ()
    of: str = ""

    def to_dict(self) -> dict[str, Any]:
        known = {"step": self.step, "of": self.of, "key": self.key, "reused": self.reused}
        return {**known, "seconds": round(self.seconds, 3), "changed": list(self.changed)}


@dataclass
class RunStore:
    """``done`` lists the steps asked for so far; ``on_step`` hears of each as it finishes, ``on_wait`` of the name and
    the object of one that another process is at."""

    root: Path = field(default_factory=default_root)
    on_step: Callable[[StepResult], None] | None = None
    on_wait: Callable[[str, str], None] | None = None
    done: list[StepResult] = field(default_factory=list)

    def step(
        self, name: str, inputs: dict[str, Any], compute: Callable[[Path, Path], None], *, of: str = ""
    ) -> StepResult:
        """The result of ``compute(folder, partial)`` for these inputs, computed only if it is not there.

        ``folder`` is to be filled; ``partial`` is kept between attempts, for checkpoints. ``of``: said of it.
        """
        record = record_of(name, inputs)
        path = self.place(name, inputs)
        started = time.monotonic()
        partial = self.root / "partial" / path.name
        reused, changed = path.is_dir(), tuple[str, ...]()
        if not reused:
            changed = differing(record, path.parent)
            with self._alone(name, of, partial):
                reused = path.is_dir()  # by the process that was waited for
                if not reused:
                    self._compute(path, record, compute, partial)
        shutil.rmtree(partial, ignore_errors=True)  # of a run killed just before this line, too
        return self.note(StepResult(name, path.name, path, reused, time.monotonic() - started, changed, of))

    def place(self, name: str, inputs: dict[str, Any]) -> Path:
        """Where the result for these inputs is, or will be."""
        return self.root / name / digest(record_of(name, inputs))[:KEY_LENGTH]

    def note(self, result: StepResult) -> StepResult:
        """Count a step that was asked for, here or in another process."""
        self.done.append(result)
        if self.on_step:
            self.on_step(result)
        return result

    @contextmanager
    def _alone(self, name: str, of: str, partial: Path) -> Iterator[None]:
        """No other process is in here for the same ``partial``."""
        lock, waited = FileLock(partial / LOCK), False
        while not lock.is_locked:
            try:
                partial.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # whoever was at it has finished and cleared the folder away
                    lock.acquire(timeout=-1 if waited else 0)
            except Timeout:
                waited = True
                if self.on_wait:
                    self.on_wait(name, of)
            except OSError as error:
                raise MobilepruneError(
                    f"cannot write the run store {self.root}: {error.strerror}; choose another with --runs DIR"
                ) from error
        try:
            yield
        finally:
            if partial.is_dir() and os.listdir(partial) == [LOCK]:  # nothing to go on with
                shutil.rmtree(partial, ignore_errors=True)
            lock.release()

    @staticmethod
    def _compute(path: Path, record: dict[str, Any], compute: Callable[[Path, Path], None], partial: Path) -> None:
        try:
            with atomic_folder(path) as folder:
                compute(folder, partial)
                write_json(folder / RECORD, record)
        except MobilepruneError:
            if not path.is_dir():  # another process finished the same step first: its result is as good
                raise
