"""Normalisation of pixels: (x - mean) / std per channel, in the app or baked into the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Baked(nn.Module):
    """``model`` that takes pixels in [0, 1], (N, C, H, W), and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x - self.mean) / self.std)  # type: ignore[no-any-return]
