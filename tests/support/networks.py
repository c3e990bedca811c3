"""Small networks with what exporters trip over: a residual sum, batch normalisation, dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileprune.models.lenet5 import lenet5

Shape = tuple[int, int, int]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.relu(x + self.block(x)).mean((2, 3)))


def dropout_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 3))


CASES = {"lenet5": (lenet5, (1, 28, 28)), "residual": (Residual, (3, 8, 8)), "dropout": (dropout_net, (3, 4, 4))}


def made(name: str) -> tuple[nn.Module, Shape]:
    build, shape = CASES[name]
    torch.manual_seed(0)
    model = build()
    model(torch.randn(4, *shape))  # running statistics that are not 0 and 1
    return model.eval(), shape
