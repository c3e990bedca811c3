"""What a device is asked to do with a model file, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune.devices.result import RunResult


@dataclass(frozen=True)
class Model:
    """A file and the SHA-256 that it was checked to have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Job:
    """``inputs``: (N, C, H, W) float32 as the file takes them. ``operators``: the native library, for files of it.

    ``num_classes``: those of the model, where they are known.

    Timed is the first batch: at least ``runs`` runs and ``secs`` seconds of the model and of the ``baseline``, in turn.
    """

    model: Model
    inputs: NDArray[np.float32]
    baseline: Model | None = None
    operators: Path | None = None
    num_classes: int | None = None
    num_threads: int = 1
    batch: int = 256
    cpus: str = ""
    runs: int = 0
    warmup: int = 0
    secs: float = 0.0
    warmup_secs: float = 0.0
    sustained_secs: float = 0.0
    profile: bool = False

    def arguments(self) -> list[str]:
        """Of the runner, but for its files."""
        shape = ",".join(map(str, self.inputs.shape))
        numbers = {
            "--shape": shape,
            "--threads": self.num_threads,
            "--batch": self.batch,
            "--runs": self.runs,
            "--warmup": self.warmup,
            "--secs": self.secs,
            "--warmup-secs": self.warmup_secs,
            "--sustained-secs": self.sustained_secs,
        }
        found = [word for name, value in numbers.items() for word in (name, str(value))]
        return found + (["--cpus", self.cpus] if self.cpus else [])


@dataclass(frozen=True)
class Answer:
    """``outputs``: (N, K) float32; ``profiles``: the content of the runtime's own profiles."""

    outputs: NDArray[np.float32]
    result: RunResult
    profiles: dict[str, bytes] = field(default_factory=dict)
