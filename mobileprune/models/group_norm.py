"""Group norm in place of batch norm: an example's output no longer depends on its batch, as DP-SGD needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mobileprune.errors import UsageError

MAX_GROUPS = 32
"""Wu and He, arXiv 1803.08494."""


def to_group_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm of C channels, in place, by a group norm of gcd(32, C) groups, as Opacus does.

    Affine parameters are taken over. UsageError for a layer that does more than normalise.
    """
    made: dict[nn.Module, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, _BatchNorm):
            if module not in made:  # a layer may be used in several places
                made[module] = _group_norm(name, module)
            model.set_submodule(name, made[module])
    return model


def _group_norm(name: str, batch: _BatchNorm) -> nn.Module:
    channels = batch.num_features
    group = nn.GroupNorm(math.gcd(MAX_GROUPS, channels), channels, eps=batch.eps, affine=batch.affine)
    if batch.affine:
        group.load_state_dict({"weight": batch.weight, "bias": batch.bias})
    if type(batch).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
        return group
    if isinstance(drop := getattr(batch, "drop", None), nn.Module) and isinstance(batch.act, nn.Module):
        return nn.Sequential(group, drop, batch.act)  # timm's BatchNormAct2d
    raise UsageError(f"--norm group cannot replace {name}, a {type(batch).__name__}; leave it out")


@contextmanager
def refusing_groups_of_one(model: nn.Module) -> Iterator[None]:
    """Within it, UsageError where a group norm meets groups of one value: their normalised value is always 0."""

    def check(layer: nn.GroupNorm, inputs: tuple[Any, ...]) -> None:
        x: Tensor = inputs[0]
        if x[0].numel() == layer.num_groups:
            raise UsageError(
                f"--norm group: {names[layer]} would normalise {x.shape[1]} channels of one pixel in "
                f"{layer.num_groups} groups, which is always 0; use larger images, a wider model or --norm batch"
            )

    names: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, nn.GroupNorm)}
    hooks = [layer.register_forward_pre_hook(check) for layer in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
