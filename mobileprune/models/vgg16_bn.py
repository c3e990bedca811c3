"""torchvision's VGG-16 with batch normalisation, with a small head where images are small."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from mobileprune.models.from_torchvision import SMALL, adapt_channels, classifier
from mobileprune.models.initial import he_normal
from mobileprune.torchvision_import import torchvision

SIDE = 32
"""The smallest image that five poolings leave a pixel of; smaller ones are padded to it."""


def vgg16_bn(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes); Simonyan and Zisserman arXiv 1409.1556, configuration D.

    Below 64 pixels: torchvision's ``vgg16_bn().features``, global average pooling and one linear layer (14.7 M
    weights instead of 134 M), as usual for CIFAR-10. From 64 pixels on: torchvision's network unchanged.
    """
    channels, *size = input_shape
    if min(size) >= SMALL:
        return classifier("vgg16_bn", num_classes, input_shape)
    vgg = torchvision("models.vgg")
    features: Any = vgg.make_layers(vgg.cfgs["D"], batch_norm=True)
    adapt_channels(he_normal(features), channels)
    features[0].padding = tuple(1 + max(0, SIDE + 1 - side) // 2 for side in size)
    head = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": nn.Linear(512, num_classes)}
    return nn.Sequential(OrderedDict(features=features, **head))
