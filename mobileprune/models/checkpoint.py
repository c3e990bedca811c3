"""Tensors on disk: safetensors, or a ``.pt`` state dict read with ``weights_only=True``. Never pickle."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mobileprune.errors import CheckpointError, one_line
from mobileprune.models.mismatch import mismatch
from mobileprune.tensors import Tensors, put

PACKED = (torch.float4_e2m1fn_x2,)
"""Types of which an element is several numbers."""


def read_weights(path: Path) -> Tensors:
    """The tensors of a ``.safetensors`` or ``.pt``/``.pth`` file; CheckpointError says what is wrong."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            read: Any = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what it refuses in a moment anyway
                _check_stored(path)
                read = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than weights; save it with torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # torch's reader checks little itself: what it raises has no common base
        raise CheckpointError(f"{path}: corrupt or not a checkpoint ({_first_line(error)})") from error
    weights = _state_dict(read, path)
    for name, tensor in weights.items():
        if odd := _oddity(tensor):
            raise CheckpointError(f"{path}: weight {name[:80]!r} {odd}; save plain tensors of numbers")
        if not _finite(tensor):
            raise CheckpointError(f"{path}: weight {name[:80]!r} holds NaN or infinity; train again or repair it")
    return weights


def _check_stored(path: Path) -> None:
    """torch saves its records as they are; it would also unpack some, however large they become."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"unpacks to {unpacked:,} bytes, more than it has")


def _oddity(tensor: Tensor) -> str:
    """What makes it no plain tensor, of which no more is claimed than is stored; "" for one that is."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is sparse or nested"
    if tensor.device.type != "cpu":
        return f"lies on {tensor.device.type}"
    if tensor.is_quantized or tensor.is_complex() or tensor.dtype in PACKED:
        return f"is of type {tensor.dtype}"
    if (stored := tensor.untyped_storage().nbytes()) < (claimed := tensor.numel() * tensor.itemsize):
        return f"claims {claimed:,} bytes, of which {stored:,} are stored"
    return ""


def _finite(tensor: Tensor) -> bool:
    small = tensor.is_floating_point() and tensor.itemsize == 1  # of float8, torch cannot ask
    return bool(torch.isfinite(tensor.float() if small else tensor).all())


def _state_dict(value: Any, path: Path) -> Tensors:
    """``value``, or the one state dict in it: a training loop saves it beside its own state, under any name."""
    if isinstance(value, dict) and not _holds_weights(value):
        inside = {name: part for name, part in value.items() if _holds_weights(part)}
        if len(inside) > 1:
            names = ", ".join(map(str, inside))
            raise CheckpointError(f"{path}: holds several state dicts ({names}); save the one that is meant alone")
        value = next(iter(inside.values()), None)
    if not _holds_weights(value):
        raise CheckpointError(f"{path}: must hold a state dict of tensors; save model.state_dict()")
    return cast(Tensors, value)


def _holds_weights(value: Any) -> bool:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return False
    tensors = [part for part in value.values() if isinstance(part, Tensor)]
    return len(tensors) == len(value) and any(tensor.is_floating_point() for tensor in tensors)


def unwrapped(weights: Tensors, names: Set[str]) -> Tensors:
    """``weights`` without what all of their names begin with, if that gives just the ``names`` of the model.

    DataParallel wraps a model as ``module.``, torch.compile as ``_orig_mod.``, training frameworks as they like.
    """
    found = weights
    while found.keys() != names:
        firsts = {name.partition(".")[0] for name in found}
        if len(firsts) > 1 or not all("." in name for name in found):
            return weights
        found = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    return found


Others = Callable[[], Mapping[str, nn.Module]]


def load_into(model: nn.Module, path: Path, others: Others = dict) -> nn.Module:
    """``model`` with the weights of a user's file, which may be those of a wrapped model.

    ``others``: models that they may be meant for, of which an error tells; made only then.
    """
    return fill(model, unwrapped(read_weights(path), model.state_dict().keys()), str(path), others)


def fill(model: nn.Module, weights: Tensors, what: str, others: Others = dict) -> nn.Module:
    """``model`` with these weights, in eval mode; CheckpointError, beginning with ``what``, if they do not fit."""
    try:
        put(weights, model)
    except (RuntimeError, ValueError) as error:  # ValueError: of a layer that knows no such version of itself
        why = mismatch(weights, model, others()) or one_line(error)
        raise CheckpointError(f"{what} does not fit the model: {why}") from error
    return model.eval()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
