"""Tensors on disk: safetensors, or a ``.pt`` state dict read with ``weights_only=True``. Never pickle."""

from __future__ import annotations

import pickle
import struct
import warnings
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mobileprune.errors import CheckpointError
from mobileprune.tensors import Tensors

DAMAGED = (
    safetensors.SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    struct.error,
)
"""What reading a damaged file raises: torch's reader checks little itself."""


def read_weights(path: Path) -> Tensors:
    """The tensors of a ``.safetensors`` or ``.pt``/``.pth`` file; CheckpointError says what is wrong."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            weights: Any = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what it refuses in a moment anyway
                weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than weights; save it with torch.save(model.state_dict(), ...)"
        ) from error
    except DAMAGED as error:
        raise CheckpointError(f"{path}: corrupt or not a checkpoint ({_first_line(error)})") from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    named = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if not named or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: must hold a state dict of tensors; save model.state_dict()")
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: weight {name!r} holds NaN or infinity; train again or repair it")
    return cast(Tensors, weights)


def load_into(model: nn.Module, path: Path) -> nn.Module:
    return fill(model, read_weights(path), str(path))


def fill(model: nn.Module, weights: Tensors, what: str) -> nn.Module:
    """``model`` with these weights, in eval mode; CheckpointError, beginning with ``what``, if they do not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{what} does not fit the model: {' '.join(str(error).split())[:300]}") from error
    return model.eval()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
