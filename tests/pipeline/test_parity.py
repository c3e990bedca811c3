"""Which images an export is held against, and what it says of a model with which no file can agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mobileprune.data import Images
from mobileprune.data.splits import split
from mobileprune.pipeline.parity import MOST_OF_A_SIDE, parity_images, unstable


def test_a_model_that_float64_disagrees_with_is_said_to_be_unstable() -> None:
    rounding = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    x = torch.randn(8, 1, 2, 2)
    assert unstable(rounding, x, 1e-4) == ""
    with torch.no_grad():
        rounding[1].weight.copy_(1e9 * torch.tensor([[1.0, 1, 1, -3]]).expand(3, -1))
        rounding[1].bias.zero_()
    assert "in float64 the PyTorch model itself answers otherwise by" in unstable(rounding, x, 1e-4)
    assert next(rounding.parameters()).dtype == torch.float32, "the model is left as it was"


@pytest.mark.parametrize("members", [30, MOST_OF_A_SIDE, MOST_OF_A_SIDE + 500, 3 * MOST_OF_A_SIDE])
def test_a_file_is_asked_about_as_many_held_out_images_as_members(members: int) -> None:
    pixels = np.arange(2 * members + 2, dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)
    labels = np.arange(len(pixels)) % 2
    splits = split(Images("set", pixels, labels, ("a", "b")), seed=0, members=members, canaries=0.0)
    asked = set(parity_images(splits).tolist())
    sides = [len(asked & set(side.tolist())) for side in (splits.members, splits.held_out)]
    assert sides == [min(members, MOST_OF_A_SIDE)] * 2
