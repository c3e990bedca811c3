"""Normalisation in the graph against the same arithmetic in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mobileprune.convert.preprocessing import Baked


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.25]), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_pixels_are_normalised_per_channel(mean: list[float], std: list[float], batch: int) -> None:
    pixels = np.random.default_rng(0).uniform(size=(batch, len(mean), 4, 3)).astype(np.float32)
    got = Baked(nn.Identity(), mean, std)(torch.from_numpy(pixels))
    expected = (pixels.astype(np.float64) - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_model_inside_sees_what_it_was_trained_on() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 4)).eval()
    pixels = torch.rand(6, 3, 4, 4)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    normalised = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(Baked(model, mean, std)(pixels), model(normalised), rtol=0, atol=0)


def test_the_constants_travel_with_the_module() -> None:
    baked = Baked(nn.Identity(), [0.5], [0.25])
    assert dict(baked.state_dict()) == {"mean": torch.tensor([[[[0.5]]]]), "std": torch.tensor([[[[0.25]]]])}
    assert not list(baked.parameters())
