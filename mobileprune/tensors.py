"""Tensors of our own on disk: safetensors, written atomically; a full disk or damage is one clear line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from mobileprune.atomic import atomic_file
from mobileprune.errors import MobilepruneError

Tensors = dict[str, Tensor]


def save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    # Cloned, because tied weights share memory, which the format refuses.
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        try:
            safetensors.torch.save_file(own, temporary, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise MobilepruneError(f"cannot write {path}: {error}; free some space or choose another folder") from error


def load(path: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors and the metadata of a file that :func:`save` wrote."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise MobilepruneError(f"{path} is damaged ({error}); delete {path.parent} and run again") from error


def put(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Load ``weights`` into ``model``; RuntimeError, or whatever a layer of its raises, if they do not fit.

    Plain tensors do not tell by which version of a layer they were written, without which MNASNet takes none: those
    with all names of the model are taken for those of its own versions.
    """
    own = model.state_dict()
    if not hasattr(weights, "_metadata") and weights.keys() == own.keys():
        weights = OrderedDict(weights)
        weights._metadata = own._metadata  # type: ignore[attr-defined]
    model.load_state_dict(weights)
