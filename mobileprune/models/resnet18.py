"""torchvision's ResNet-18, with the usual stem where images are small."""

from __future__ import annotations

from typing import Any

from torch import nn

from mobileprune.models.from_torchvision import SMALL, classifier
from mobileprune.models.initial import he_normal


def resnet18(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes); He et al. arXiv 1512.03385, table 1.

    Images smaller than 64 pixels would be one pixel before the last stage: for them the stem is a 3x3
    convolution with stride 1 and no pooling.
    """
    model: Any = classifier("resnet18", num_classes, input_shape)
    if min(input_shape[1:]) < SMALL:
        model.conv1 = he_normal(nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False))
        model.maxpool = nn.Identity()
    return model  # type: ignore[no-any-return]
