"""Networks whose zeros are chosen and whose values mean nothing: speed asks for the places of zeros alone.

Weights are drawn from a seed. Batch normalisation is measured on noise, so that activations stay near 1 in all layers
(an untrained network fades into denormal numbers, which are slow), and folded. The same share of weights, the smallest
units of the pattern, is dropped in every layer but the first convolution, the last linear layer and depthwise ones;
the rest is scaled up to the layer's former norm.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from mobileprune.convert.fold_bn import fold_bn, reestimate
from mobileprune.convert.shrink import shrink
from mobileprune.export.onnx import convert
from mobileprune.models import build
from mobileprune.pruning.masks import Masks, PruneScope, apply_masks, prunable
from mobileprune.pruning.patterns import sites

SIDES = {"vgg16_bn": 32, "resnet18": 224, "mobilenetv2": 224}
CLASSES = {32: 10, 224: 1000}
PATTERNS = ("unstructured", "block:4x1")
OPSET, SEED, IMAGES, ROUND_TO = 18, 0, 4, 8


@dataclass(frozen=True)
class Network:
    """``model`` (in eval mode, folded) and the dense ONNX file of it, with the same names of weights."""

    model: nn.Module
    proto: onnx.ModelProto
    shape: tuple[int, int, int]

    @property
    def image(self) -> NDArray[np.float32]:
        """(1, C, H, W) of noise."""
        return np.random.default_rng(SEED).standard_normal((1, *self.shape)).astype(np.float32)

    @cached_property
    def noise(self) -> torch.Tensor:
        """To calibrate on: (N, C, H, W)."""
        return noise(self.shape)


def noise(shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(SEED))


def network(name: str, side: int | None = None) -> Network:
    """``side``: of the images, where it is not that of SIDES."""
    return _network(_built(name), side or SIDES[name])


def narrow(name: str, share: float) -> Network:
    """Dense, with about ``share`` of the channels of every layer, in multiples of 8: what is faster as dense layers."""
    model, side = _built(name), SIDES[name]
    x = noise((3, side, side))
    found = sites("channel")(model, PruneScope(prunable(model), x[:2], round_to=ROUND_TO))[0]
    masks: Masks = {}
    for site in found:
        kept = torch.zeros(site.units, dtype=torch.bool)
        kept[: max(1, round(share * site.units / site.multiple)) * site.multiple] = True
        masks |= site.masks(kept)
    apply_masks(model, masks)
    return _network(shrink(model, found, masks, x)[0], side)


def _built(name: str) -> nn.Module:
    side = SIDES[name]
    return build(name, num_classes=CLASSES[side], input_shape=(3, side, side), seed=SEED)


def _network(model: nn.Module, side: int) -> Network:
    shape = (3, side, side)
    folded = fold_bn(reestimate(model, noise(shape)))
    return Network(folded, convert(folded, shape, OPSET), shape)


def pruned(dense: Network, pattern: str, sparsity: float) -> Network:
    """``sparsity``: share of zeros in every layer that is pruned."""
    model, proto = copy.deepcopy(dense.model), onnx.ModelProto()
    proto.CopyFrom(dense.proto)
    weights = sparse_weights(model, pattern, sparsity, torch.zeros(1, *dense.shape))
    model.load_state_dict(weights, strict=False)
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].numpy(), tensor.name))
    missing = weights.keys() - {tensor.name for tensor in proto.graph.initializer}
    if missing:
        raise RuntimeError(f"weights that the ONNX file has by no such name: {', '.join(sorted(missing))}")
    return Network(model, proto, dense.shape)


@torch.no_grad()
def sparse_weights(model: nn.Module, pattern: str, sparsity: float, example: torch.Tensor) -> dict[str, torch.Tensor]:
    """Name -> weights with ``floor(sparsity * units)`` units of ``pattern`` dropped, of their former norm."""
    able = {name: w for name, w in prunable(model, "first-last").items() if not (w.ndim == 4 and w.shape[1] == 1)}
    found: dict[str, torch.Tensor] = {}
    for site in sites(pattern)(model, PruneScope(able, example))[0]:
        scores = site.scores(able)
        kept = torch.zeros(site.units, dtype=torch.bool)
        kept[scores.topk(site.units - math.floor(sparsity * site.units)).indices] = True
        dense = able[site.name]
        left = dense * site.masks(kept)[site.name]
        found[site.name] = left * (dense.norm() / left.norm().clamp_min(torch.finfo(left.dtype).tiny))
    return found
