"""Batch normalisation of pruned networks: re-estimate, neutralise dead channels, fold.

Pruning shifts activations, so the running statistics no longer fit; and a channel whose filter is all zero
has running variance near 0, so folding would scale it by 1/sqrt(eps) and wreck reduced precision. Both are
cured before folding: the statistics are measured again, and a dead channel becomes the constant that it is.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mobileprune.training import Examples

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
DEAD_VARIANCE = 1e-12  # far below eps: a channel that varies at all is left alone


@torch.no_grad()
def reestimate(model: nn.Module, x: Tensor | Examples, batch_size: int = 256) -> nn.Module:
    """Running mean and variance measured anew on ``x``, inputs (N, C, H, W) or examples; in place.

    A plain average over batches.
    """
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
    """Channels without variance get gamma 0, mean 0, variance 1 and keep their output, beta; in place."""
    for norm in model.modules():
        if isinstance(norm, BatchNorm) and norm.running_var is not None and norm.affine:
            dead = norm.running_var < DEAD_VARIANCE
            norm.weight[dead] = 0.0
            norm.running_mean[dead] = 0.0  # type: ignore[index]
            norm.running_var[dead] = 1.0
    return model


def fold_bn(model: nn.Module) -> nn.Module:
    """A copy in eval mode with batch normalisation folded into the convolution before it, where that is exact.

    Uses torch.fx; a model that fx cannot trace is returned unfolded (its outputs are the same).
    """
    model = neutralise_dead_channels(copy.deepcopy(model).eval())
    if not any(isinstance(m, BatchNorm) for m in model.modules()):
        return model
    try:
        traced = torch.fx.symbolic_trace(model)
    except Exception:  # any code of the user's may meet fx's proxies
        return model
    return _fold(traced)


def _fold(model: torch.fx.GraphModule) -> nn.Module:
    """Fold every convolution -> normalisation of which both are called once and nothing else sees what is between.

    (``torch.fx.experimental.optimization.fuse`` also folds modules that are called twice, which is wrong.)
    """
    modules = dict(model.named_modules())
    calls = [node for node in model.graph.nodes if node.op == "call_module"]
    times = Counter(id(modules[str(node.target)]) for node in calls)
    for node in calls:
        norm, before = modules[str(node.target)], node.args[0] if node.args else None
        if not isinstance(norm, BatchNorm) or norm.running_var is None or before is None or before not in calls:
            continue
        layer = modules[str(before.target)]
        once = times[id(layer)] == times[id(norm)] == len(before.users) == 1
        if once and isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            parent, _, name = str(before.target).rpartition(".")
            modules[str(before.target)] = fused = fuse_conv_bn_eval(layer, norm)
            times[id(fused)] = 1
            setattr(model.get_submodule(parent), name, fused)
            node.replace_all_uses_with(before)
            model.graph.erase_node(node)
    model.delete_all_unused_submodules()
    model.recompile()
    return model
