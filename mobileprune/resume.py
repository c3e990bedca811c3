"""Training state on disk, so that a killed run continues where it was: safetensors, never pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from mobileprune import tensors as tensor_files
from mobileprune.tensors import Tensors


class Resumable(Protocol):
    """State as tensors and back; scalars as 0-d tensors."""

    def state(self) -> Tensors: ...
    def restore(self, state: Tensors) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """Where the loop saves itself, at most every ``every_secs`` seconds of wall time (0: every epoch)."""

    path: Path
    every_secs: float = 5.0


def save(
    checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, hooks: Sequence[Resumable], done: int
) -> None:
    """Everything that the epochs after the first ``done`` depend on."""
    tensors = join({"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)})
    tensors |= join({f"hook{index}": hook.state() for index, hook in enumerate(hooks)})
    tensor_files.save(tensors, checkpoint.path, metadata={"epochs_done": str(done)})


def restore(
    checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, hooks: Sequence[Resumable]
) -> int:
    """The inverse of :func:`save`; returns the epochs that are done, 0 without a checkpoint."""
    if not checkpoint.path.exists():
        return 0
    tensors, metadata = tensor_files.load(checkpoint.path)
    tensor_files.put(part(tensors, "model"), model)
    load_optimizer_tensors(optimizer, part(tensors, "optimizer"))
    for index, hook in enumerate(hooks):
        hook.restore(part(tensors, f"hook{index}"))
    return int(metadata["epochs_done"])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The state of Adam and its kind, whose entries are tensors for each parameter."""
    return join({str(index): state for index, state in optimizer.state_dict()["state"].items()})


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    saved = optimizer.state_dict()
    indices = {int(key.partition("/")[0]) for key in tensors}
    saved["state"] = {index: part(tensors, str(index)) for index in sorted(indices)}
    optimizer.load_state_dict(saved)


def join(parts: Mapping[str, Mapping[str, Tensor]]) -> Tensors:
    """{"a": {"b": t}} -> {"a/b": t}"""
    return {f"{prefix}/{key}": value for prefix, tensors in parts.items() for key, value in tensors.items()}


def part(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """What stands under ``prefix`` in joined tensors."""
    return {key.removeprefix(f"{prefix}/"): t for key, t in tensors.items() if key.startswith(f"{prefix}/")}
