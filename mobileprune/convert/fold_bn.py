"""Batch normalisation of pruned networks: re-estimate, neutralise dead channels, fold.

Pruning shifts activations, so the running statistics no longer fit; and a channel whose filter is all zero
has running variance near 0, so folding would scale it by 1/sqrt(eps) and wreck reduced precision. Both are
cured before folding: the statistics are measured again, and a dead channel becomes the constant that it is.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
DEAD_VARIANCE = 1e-5


@torch.no_grad()
def reestimate(model: nn.Module, x: Tensor, batch_size: int = 256) -> nn.Module:
    """Running mean and variance measured anew on ``x`` (N, C, H, W), as a plain average over batches; in place."""
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    model.eval()
    for norm in norms:
        norm.train()
    for batch in x.split(batch_size):
        if len(batch) > 1:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


@torch.no_grad()
def neutralise_dead_channels(model: nn.Module) -> nn.Module:
    """Channels with (almost) no variance get gamma 0, mean 0, variance 1 and keep their output, beta; in place."""
    for norm in model.modules():
        if isinstance(norm, BatchNorm) and norm.running_var is not None and norm.affine:
            dead = norm.running_var < DEAD_VARIANCE
            norm.weight[dead] = 0.0
            norm.running_mean[dead] = 0.0  # type: ignore[index]
            norm.running_var[dead] = 1.0
    return model


def fold_bn(model: nn.Module) -> nn.Module:
    """A copy in eval mode with every batch normalisation folded into its convolution.

    Uses torch.fx; a model that fx cannot trace is returned unfolded (its outputs are the same).
    """
    model = neutralise_dead_channels(copy.deepcopy(model).eval())
    if not any(isinstance(m, BatchNorm) for m in model.modules()):
        return model
    try:
        return fuse(model)
    except (torch.fx.proxy.TraceError, TypeError, NotImplementedError):
        return model
