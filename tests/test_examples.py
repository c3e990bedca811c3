"""What training sees of stored pixels: normalised, picked, cropped and mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.states import same
from torch import Tensor, nn

from mobileprune.seeding import torch_rng
from mobileprune.training import Examples, Hook, Recipe, augment, fit

CLASSES = 3


def pixels(count: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_normalised_as_numpy_does_it_bit_for_bit(channels: int) -> None:
    """For every value that there is."""
    x = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(256, channels, 2, 3).contiguous()
    mean, std = np.float32([0.485, 0.456, 0.406][:channels]), np.float32([0.229, 0.224, 0.225][:channels])
    one = Examples(x, torch.zeros(256), *(torch.tensor(v).view(-1, 1, 1) for v in (mean, std)))
    expected = (x.numpy().astype(np.float32) / np.float32(255) - mean[:, None, None]) / std[:, None, None]
    parts = list(one.split(100))
    assert [len(part) for part in parts] == [100, 100, 56]
    assert {part.dtype for part in parts} == {torch.float32}
    assert np.array_equal(np.concatenate(parts), expected)
    picked = torch.tensor([3, 250, 3])
    assert np.array_equal(one.inputs(picked).numpy(), expected[[3, 250, 3]])


@pytest.mark.parametrize("rows", [None, torch.tensor([9, 0, 4, 4, 7])])
def test_some_examples_are_those_of_a_list(rows: Tensor | None) -> None:
    x = pixels(10, (1, 2, 2))
    listed = [x[int(i)] for i in (range(5) if rows is None else rows)]
    one, picked = Examples(x, torch.arange(5), rows=rows), [3, 0, 3]
    assert torch.equal(one.inputs(torch.tensor(picked)), torch.stack([listed[i] for i in picked]) / 255)
    again = one.take(torch.tensor(picked)).take(torch.tensor([2, 1]))
    assert (again.y.tolist(), len(again)) == ([3, 0], 2)
    assert torch.equal(*(torch.cat([*each]) for each in (again.split(1), again.split(9))))
    assert torch.equal(*again.split(9), torch.stack([listed[3], listed[0]]) / 255)
    assert [tuple(part.shape) for part in one.take(torch.arange(0)).split(4)] == [(0, 1, 2, 2)]


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, CLASSES))


@pytest.mark.parametrize("kind", ["none", "crop-flip"])
def test_training_on_pixels_is_training_on_their_floats_bit_for_bit(kind: str) -> None:
    x, y = pixels(20, (1, 8, 8)), torch.arange(20) % CLASSES
    mean, std = torch.full((1, 1, 1), 0.37), torch.full((1, 1, 1), 0.21)
    floats = torch.from_numpy((x.numpy().astype(np.float32) / np.float32(255) - mean.numpy()) / std.numpy())
    recipe = Recipe(3, 0.02, 8, augment=kind)
    fitted = [fit(conv(), data, recipe, seed=0) for data in (Examples(x, y, mean, std), Examples(floats, y))]
    assert same(*fitted)


def slow_augment(x: np.ndarray, kind: str, draws: torch.Generator) -> np.ndarray:
    """Image by image: a window of the padded image, then its mirror image."""
    count, _, height, width = x.shape
    made = x.copy()
    if kind.startswith("crop"):
        pad = max(height, width) // 8
        top, left = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=draws).squeeze(2).tolist()
        for i in range(count):
            for r in range(height):
                for c in range(width):
                    row, column = top[i] + r - pad, left[i] + c - pad
                    inside = 0 <= row < height and 0 <= column < width
                    made[i, :, r, c] = x[i, :, row, column] if inside else 0.0
    if kind.endswith("flip"):
        for i, draw in enumerate(torch.rand(count, generator=draws).tolist()):
            if draw < 0.5:
                made[i] = made[i, :, :, ::-1].copy()
    return made


@pytest.mark.parametrize("kind", ["none", "crop", "flip", "crop-flip"])
@pytest.mark.parametrize(
    "shape", [(5, 1, 8, 8), (7, 3, 16, 9), (3, 2, 5, 24), (1, 1, 1, 1), (4, 1, 7, 7), (0, 1, 8, 8)]
)
def test_augmentation_is_a_loop_over_images(kind: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = torch.tensor(x)
    found = augment(before, kind, torch_rng(0, "draws"))
    assert (found.shape, found.dtype) == (before.shape, torch.float32)
    assert np.array_equal(found.numpy(), slow_augment(x, kind, torch_rng(0, "draws")))
    assert np.array_equal(before.numpy(), x), "the examples stay as they are"


def test_crops_reach_every_offset_and_mirror_half_of_the_images() -> None:
    x = torch.zeros(4000, 1, 16, 16)
    x[:, 0, 8, 5] = 1.0
    found = torch.nonzero(augment(x, "crop", torch_rng(0)).squeeze(1))
    assert {(8 - int(r), 5 - int(c)) for _, r, c in found} == {(r, c) for r in range(-2, 3) for c in range(-2, 3)}
    mirrored = int(augment(x, "flip", torch_rng(0))[:, 0, 8, 10].sum())
    assert abs(mirrored - 2000) < 5 * 1000**0.5


def test_no_augmentation_is_the_same_tensor_and_draws_nothing() -> None:
    x, rng = torch.randn(4, 1, 8, 8), torch_rng(0)
    state = rng.get_state()
    assert augment(x, "none", rng) is x
    assert torch.equal(rng.get_state(), state)


def test_augmentation_leaves_the_order_of_the_examples_as_it_is() -> None:
    """An epoch draws its order before its first crop."""
    orders = []
    for kind in ("none", "crop-flip"):
        seen = Labels()
        data = Examples(torch.randn(20, 1, 8, 8), torch.arange(20) % CLASSES)
        fit(conv(), data, Recipe(2, 0.01, 8, augment=kind), seed=0, hooks=[seen])
        orders.append(torch.cat(seen.y).tolist())
    assert orders[0] == orders[1]


class Labels(Hook):
    def __init__(self) -> None:
        self.y: list[Tensor] = []

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        self.y.append(y)
