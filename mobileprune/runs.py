"""RunStore: every step's result under the hash of what went in. Resumable, atomic, never pickle.

    ROOT/<step>/<key>/        a finished result, with ``step.json`` (its inputs)
    ROOT/partial/<key>/       checkpoints of a step that is running or was killed

``key`` is the SHA-256 of the step's name, its inputs, the versions of the tools that compute it and the
source of mobileprune's computing half: changed code never answers with a result of the old. A finished
folder appears by one rename, so a kill leaves either the whole result or a partial one to continue.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mobileprune.errors import MobilepruneError
from mobileprune.files import atomic_folder, digest, sha256, write_json

TOOLS = ("mobileprune", "torch", "torch-pruning", "onnx", "onnxruntime", "numpy")
JUDGING = ("__main__.py", "api.py", "attacks", "audit", "bench", "cli", "evaluate.py", "inspection", "report")
KEY_LENGTH = 32


def tool_versions() -> dict[str, str]:
    return {name: version(name) for name in TOOLS}


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Over the modules that a step's result may depend on: all but those that judge and show it."""
    package = Path(__file__).parent
    found = {file.relative_to(package): file for file in sorted(package.rglob("*.py"))}
    return digest({name.as_posix(): sha256(file) for name, file in found.items() if name.parts[0] not in JUDGING})


def default_root() -> Path:
    """``MOBILEPRUNE_RUNS``, else the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MOBILEPRUNE_RUNS") or Path(cache) / "mobileprune")


@dataclass(frozen=True)
class StepResult:
    step: str
    key: str
    path: Path
    reused: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {"step": self.step, "key": self.key, "reused": self.reused, "seconds": round(self.seconds, 3)}


@dataclass
class RunStore:
    """``done`` lists the steps asked for so far; ``on_step`` hears of each as it finishes."""

    root: Path = field(default_factory=default_root)
    on_step: Callable[[StepResult], None] | None = None
    done: list[StepResult] = field(default_factory=list)

    def step(self, name: str, inputs: dict[str, Any], compute: Callable[[Path, Path], None]) -> StepResult:
        """The result of ``compute(folder, partial)`` for these inputs, computed only if it is not there.

        ``folder`` is to be filled; ``partial`` is kept between attempts, for checkpoints.
        """
        record = {"step": name, "inputs": inputs, "versions": tool_versions(), "source": source_digest()}
        key = digest(record)[:KEY_LENGTH]
        path = self.root / name / key
        started = time.monotonic()
        partial = self.root / "partial" / key
        reused = path.is_dir()
        if not reused:
            try:
                partial.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MobilepruneError(
                    f"cannot write the run store {self.root}: {error.strerror}; choose another with --runs DIR"
                ) from error
            self._compute(path, record, compute, partial)
        shutil.rmtree(partial, ignore_errors=True)  # of a run killed just before this line, too
        result = StepResult(name, key, path, reused, time.monotonic() - started)
        self.done.append(result)
        if self.on_step:
            self.on_step(result)
        return result

    @staticmethod
    def _compute(path: Path, record: dict[str, Any], compute: Callable[[Path, Path], None], partial: Path) -> None:
        try:
            with atomic_folder(path) as folder:
                compute(folder, partial)
                write_json(folder / "step.json", record)
        except MobilepruneError:
            if not path.is_dir():  # another process finished the same step first: its result is as good
                raise
