"""Prunable weights, masks on them, and counting zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError
from mobileprune.training import Hook

PRUNABLE = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Masks = dict[str, Tensor]
"""Parameter name -> bool tensor of its shape, True = kept."""


@dataclass(frozen=True)
class PruneScope:
    """``weights``: the layers that may be pruned, by parameter name. ``example`` (N, C, H, W): to trace with."""

    weights: dict[str, Tensor]
    example: Tensor
    round_to: int = 1


def prunable(model: nn.Module, keep_dense: str = "none") -> dict[str, Tensor]:
    """The weights of convolution and linear layers (those inside attention included) in order of definition.

    ``keep_dense``: "none", "first", "last" or "first-last" are left out. Weights tied to an earlier layer count once.
    """
    layers: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        attribute = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
        weight = getattr(module, attribute) if isinstance(module, PRUNABLE | nn.MultiheadAttention) else None
        if weight is None:  # another kind, or attention with separate projections
            continue
        if not isinstance(weight, nn.Parameter):
            raise UsageError(f"{name}.weight is computed from other parameters: remove its parametrization to prune it")
        if all(weight is not other for other in layers.values()):
            layers[f"{name}.{attribute}" if name else attribute] = weight
    names = list(layers)
    kept = {"none": [], "first": names[:1], "last": names[-1:], "first-last": names[:1] + names[-1:]}[keep_dense]
    left = {name: weight for name, weight in layers.items() if name not in kept}
    if not left:
        raise UsageError(f"the model has no prunable convolution or linear weights with --keep-dense {keep_dense}")
    return left


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


def count_zeros(model: nn.Module, names: list[str], original: nn.Module | None = None) -> dict[str, Any]:
    """Zeros counted in the weights themselves: per layer of ``names``, over these, and over all parameters.

    ``zero_channels``: output channels (rows of linear layers) of which every weight is zero. What is missing of
    ``original``, the network that ``model`` was cut out of, counts as zero.
    """
    whole = model if original is None else original

    def zeros(name: str) -> int:
        return whole.get_parameter(name).numel() - int(model.get_parameter(name).count_nonzero())

    sizes = {name: whole.get_parameter(name).shape for name in names}
    layers = {name: {"shape": list(size), "total": size.numel(), "zeros": zeros(name)} for name, size in sizes.items()}
    nonzero_rows = sum(int(model.get_parameter(name).flatten(1).any(1).sum()) for name in names)
    channels = sum(size[0] for size in sizes.values())
    return {
        "prunable_zeros": sum(layer["zeros"] for layer in layers.values()),
        "prunable_total": sum(layer["total"] for layer in layers.values()),
        "zero_channels": channels - nonzero_rows,
        "channels": channels,
        "all_zeros": sum(zeros(name) for name, _ in whole.named_parameters()),
        "all_total": sum(p.numel() for p in whole.parameters()),
        "layers": layers,
    }


class FrozenMask(Hook):
    """Keeps pruned weights at exactly zero."""

    def __init__(self, masks: Masks) -> None:
        self.masks = masks

    def after_step(self, model: nn.Module) -> None:
        apply_masks(model, self.masks)
