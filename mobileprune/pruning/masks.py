"""Prunable weights, exact budgets, and the projection onto "at most l_i weights in layer i"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError
from mobileprune.training import Hook

PRUNABLE = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Masks = dict[str, Tensor]
"""Parameter name -> bool tensor of its shape, True = kept."""


def prunable(model: nn.Module, keep_dense: str = "none") -> dict[str, Tensor]:
    """The weights of convolution and linear layers in order of definition, less those kept dense.

    ``keep_dense``: "none", "first", "last" or "first-last". Weights tied to an earlier layer count once.
    """
    layers: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, PRUNABLE) and not isinstance(module.weight, nn.Parameter):
            raise UsageError(f"{name}.weight is computed from other parameters: remove its parametrization to prune it")
        if isinstance(module, PRUNABLE) and all(module.weight is not other for other in layers.values()):
            layers[f"{name}.weight" if name else "weight"] = module.weight
    names = list(layers)
    kept = {"none": [], "first": names[:1], "last": names[-1:], "first-last": names[:1] + names[-1:]}[keep_dense]
    left = {name: weight for name, weight in layers.items() if name not in kept}
    if not left:
        raise UsageError(f"the model has no prunable convolution or linear weights with --keep-dense {keep_dense}")
    return left


def kept_total(weights: dict[str, Tensor], sparsity: float) -> int:
    """How many weights stay: N - round(sparsity * N) over all prunable weights."""
    total = sum(w.numel() for w in weights.values())
    return total - round(sparsity * total)


def layer_budgets(weights: dict[str, Tensor], sparsity: float) -> dict[str, int]:
    """l_i: the same share in every layer, by largest remainder, so that the sum is exact to one weight."""
    sizes = {name: w.numel() for name, w in weights.items()}
    share = kept_total(weights, sparsity) / sum(sizes.values())
    budgets = {name: int(share * size) for name, size in sizes.items()}
    missing = kept_total(weights, sparsity) - sum(budgets.values())
    by_remainder = sorted(sizes, key=lambda name: share * sizes[name] - budgets[name], reverse=True)
    for name in by_remainder[:missing]:
        budgets[name] += 1
    return budgets


@torch.no_grad()
def project(weights: dict[str, Tensor], sparsity: float, scope: str) -> Masks:
    """The Euclidean projection's support: the largest magnitudes per "layer", or over all layers ("global").

    Ties are broken by position, so the count is exact. ``global`` keeps at least the largest weight
    of every layer while the budget allows: an emptied layer would cut the network.
    """
    if scope == "layer":
        budgets = layer_budgets(weights, sparsity)
        return {name: _largest(w.abs(), budgets[name]) for name, w in weights.items()}
    magnitudes = {name: w.abs().clone(memory_format=torch.contiguous_format) for name, w in weights.items()}
    keep = kept_total(weights, sparsity)
    if keep >= len(magnitudes):
        for magnitude in magnitudes.values():
            magnitude.view(-1)[magnitude.argmax()] = torch.inf
    flat = _largest(torch.cat([m.flatten() for m in magnitudes.values()]), keep)
    parts = flat.split([w.numel() for w in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def _largest(magnitude: Tensor, count: int) -> Tensor:
    order = torch.sort(magnitude.flatten(), descending=True, stable=True).indices
    mask = torch.zeros(magnitude.numel(), dtype=torch.bool)
    mask[order[:count]] = True
    return mask.view(magnitude.shape)


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


def count_zeros(model: nn.Module, names: list[str]) -> dict[str, Any]:
    """Zeros counted in the weights themselves: per layer of ``names``, over these, and over all parameters."""

    def zeros(tensor: Tensor) -> int:
        return int((tensor == 0).sum())

    layers = {
        name: {"shape": list(w.shape), "total": w.numel(), "zeros": zeros(w)}
        for name, w in ((name, model.get_parameter(name)) for name in names)
    }
    return {
        "prunable_zeros": sum(layer["zeros"] for layer in layers.values()),
        "prunable_total": sum(layer["total"] for layer in layers.values()),
        "all_zeros": sum(zeros(p) for p in model.parameters()),
        "all_total": sum(p.numel() for p in model.parameters()),
        "layers": layers,
    }


class FrozenMask(Hook):
    """Keeps pruned weights at exactly zero during retraining."""

    def __init__(self, masks: Masks) -> None:
        self.masks = masks

    def after_step(self, model: nn.Module) -> None:
        apply_masks(model, self.masks)
