"""What every step is given beside its configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mobileprune.errors import UsageError
from mobileprune.resume import Checkpoint
from mobileprune.runs import RunStore
from mobileprune.training import Progress


@dataclass
class Context:
    """Where results are kept, who hears of progress, and how many threads compute."""

    store: RunStore = field(default_factory=RunStore)
    progress: Progress | None = None
    num_threads: int = 1

    def __post_init__(self) -> None:
        if self.num_threads < 1:
            raise UsageError(f"--num-threads {self.num_threads}: must be at least 1")

    def checkpoint(self, partial: Path) -> Callable[[str], Checkpoint]:
        """The resumable place of each training stage; ``MOBILEPRUNE_CHECKPOINT_SECS`` is how often it is saved."""
        text = os.environ.get("MOBILEPRUNE_CHECKPOINT_SECS", "5")
        try:
            secs = float(text)
        except ValueError:
            raise UsageError(f"MOBILEPRUNE_CHECKPOINT_SECS={text!r}: must be a number of seconds") from None
        return lambda stage: Checkpoint(partial / f"{stage}.safetensors", secs)
