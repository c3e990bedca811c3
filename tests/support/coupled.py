"""A network with every way in which channels are coupled, as a user's own: ``--model support.coupled:build``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Coupled(nn.Module):
    """A grouped and a depthwise convolution, a residual sum, a concatenation, and what has a size of its own."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(16))
        self.grouped = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(32))
        self.expand = nn.Sequential(nn.Conv2d(32, 48, 1), nn.InstanceNorm2d(48), nn.ReLU())  # a norm without scale
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.project = nn.Conv2d(48, 32, 1)
        self.branch = nn.Conv2d(16, 24, 3, padding=1)
        self.norm = nn.InstanceNorm2d(56, affine=True)
        self.scale = nn.Parameter(torch.rand(56, 1, 1) + 0.5)
        self.head = nn.Linear(56, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.grouped(x)
        y = y + self.project(self.depthwise(self.expand(y)))
        y = torch.relu(self.norm(torch.cat([y, self.branch(x)], 1))) * self.scale
        return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]


def build(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return Coupled(num_classes, input_shape[0])
