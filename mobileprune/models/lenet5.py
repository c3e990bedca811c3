"""LeNet-5 with ReLU and max-pooling, the form used by the pruning literature (LeCun et al. 1998)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mobileprune.errors import UsageError


def lenet5(num_classes: int = 10, input_shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes); 61,706 weights and biases for 1x28x28 and 10 classes."""
    channels, height, width = input_shape
    padding = 2 if min(height, width) < 32 else 0  # 28x28 data is padded to the 32x32 of the original
    side_h = ((height + 2 * padding - 4) // 2 - 4) // 2
    side_w = ((width + 2 * padding - 4) // 2 - 4) // 2
    if min(side_h, side_w) < 1:
        raise UsageError(f"lenet5 needs images of at least 12x12, got {height}x{width}; use a larger --dataset")
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=padding),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * side_h * side_w, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, num_classes),
        )
    )
