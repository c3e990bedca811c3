"""torchvision's MobileNetV2."""

from __future__ import annotations

from torch import nn

from mobileprune.models.from_torchvision import classifier


def mobilenetv2(num_classes: int, input_shape: tuple[int, int, int], width_mult: float = 1.0) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes); Sandler et al. arXiv 1801.04381, unchanged.

    ``width_mult`` multiplies the channels of every layer, in multiples of 8.
    """
    return classifier("mobilenet_v2", num_classes, input_shape, width_mult)
