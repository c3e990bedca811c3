"""Pruned networks of ours as the pipeline hands them to a target: 90 % zeros, statistics measured, folded."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobileprune.convert.fold_bn import fold_bn, reestimate
from mobileprune.models import build

Shape = tuple[int, int, int]
PRUNED: dict[str, Shape] = {"lenet5": (1, 28, 28), "resnet8": (3, 32, 32), "mobilenetv2": (3, 32, 32)}


@cache
def pruned(name: str) -> nn.Module:
    shape, width = PRUNED[name], 0.25 if name == "mobilenetv2" else 1.0
    model = build(name, num_classes=10, input_shape=shape, seed=0, width_mult=width)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            size = layer.weight.detach().abs()
            layer.weight.data[size <= size.flatten().kthvalue(max(1, int(0.9 * size.numel()))).values] = 0
    reestimate(model, torch.randn(256, *shape, generator=torch.Generator().manual_seed(0)))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # untrained, it would amplify rounding until float32 itself is off by 5e-4
            norm.running_var.clamp_(min=0.01)
    return fold_bn(model.eval())


def relative_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """max |got - expected| / max |expected|; no answers that hardly depend on the image, which would prove nothing."""
    assert len(expected) < 5 or expected.std(0).mean() > 1e-3 * np.abs(expected).max()
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def images(count: int, shape: Shape) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, *shape)).astype(np.float32)
