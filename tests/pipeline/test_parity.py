"""What an export says of a model with which no file can agree."""

from __future__ import annotations

import torch
from torch import nn

from mobileprune.pipeline.parity import unstable


def test_a_model_that_float64_disagrees_with_is_said_to_be_unstable() -> None:
    rounding = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    x = torch.randn(8, 1, 2, 2)
    assert unstable(rounding, x, 1e-4) == ""
    with torch.no_grad():
        rounding[1].weight.copy_(1e9 * torch.tensor([[1.0, 1, 1, -3]]).expand(3, -1))
        rounding[1].bias.zero_()
    assert "in float64 the PyTorch model itself answers otherwise by" in unstable(rounding, x, 1e-4)
    assert next(rounding.parameters()).dtype == torch.float32, "the model is left as it was"
