"""Layers take the sizes of smaller weights, and nothing else: larger, odd or contradictory sizes are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.coupled import Coupled
from torch import Tensor, nn

from mobileprune.errors import CheckpointError
from mobileprune.models.resize import check_removed, refit, resize, shapes_of

Shapes = dict[str, tuple[int, ...]]


def sizes(layer: nn.Module, *names: str) -> tuple[int, ...]:
    return tuple(getattr(layer, name) for name in names)


LAYERS: list[tuple[nn.Module, Shapes, nn.Module, tuple[str, ...]]] = [
    (nn.Conv2d(6, 8, 3), {"weight": (5, 4, 3, 3), "bias": (5,)}, nn.Conv2d(4, 5, 3), ("in_channels", "out_channels")),
    (nn.Conv1d(6, 8, 3, bias=False), {"weight": (5, 4, 3)}, nn.Conv1d(4, 5, 3, bias=False), ("in_channels",)),
    (
        nn.Conv2d(8, 8, 3, groups=2),
        {"weight": (6, 3, 3, 3), "bias": (6,)},
        nn.Conv2d(6, 6, 3, groups=2),
        ("in_channels", "out_channels", "groups"),
    ),
    (
        nn.Conv2d(8, 8, 3, groups=8),
        {"weight": (3, 1, 3, 3), "bias": (3,)},
        nn.Conv2d(3, 3, 3, groups=3),
        ("in_channels", "out_channels", "groups"),
    ),
    (
        nn.Conv2d(4, 12, 3, groups=4),
        {"weight": (8, 1, 3, 3), "bias": (8,)},
        nn.Conv2d(4, 8, 3, groups=4),
        ("in_channels", "out_channels", "groups"),
    ),
    (nn.Linear(6, 8), {"weight": (5, 4), "bias": (5,)}, nn.Linear(4, 5), ("in_features", "out_features")),
    (
        nn.BatchNorm2d(8),
        dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (5,)),
        nn.BatchNorm2d(5),
        ("num_features",),
    ),
    (
        nn.BatchNorm1d(8, affine=False),
        dict.fromkeys(("running_mean", "running_var"), (5,)),
        nn.BatchNorm1d(5, affine=False),
        ("num_features",),
    ),
    (
        nn.InstanceNorm2d(8, affine=True),
        {"weight": (5,), "bias": (5,)},
        nn.InstanceNorm2d(5, affine=True),
        ("num_features",),
    ),
    (nn.PReLU(8), {"weight": (5,)}, nn.PReLU(5), ("num_parameters",)),
    (nn.ParameterList([torch.ones(8, 2, 2)]), {"0": (5, 1, 1)}, nn.ParameterList([torch.ones(5, 1, 1)]), ()),
]


@pytest.mark.parametrize(("layer", "shapes", "expected", "names"), LAYERS, ids=lambda value: type(value).__name__)
def test_a_layer_becomes_what_it_would_be_if_built_that_small(
    layer: nn.Module, shapes: Shapes, expected: nn.Module, names: tuple[str, ...]
) -> None:
    resized = resize(copy.deepcopy(layer), shapes)
    assert shapes_of(resized.state_dict()) == shapes_of(expected.state_dict())
    assert sizes(resized, *names) == sizes(expected, *names)
    assert [(n, p.requires_grad) for n, p in resized.named_parameters()] == [
        (n, p.requires_grad) for n, p in expected.named_parameters()
    ]
    resized.load_state_dict(expected.state_dict())


def test_a_network_of_the_same_sizes_is_left_alone() -> None:
    model = Coupled(4, 3)
    before = dict(model.named_parameters())
    resize(model, shapes_of(model.state_dict()))
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    resize(model, {"0.weight": (4, 6), "1.weight": (4, 6), "0.bias": (4,), "1.bias": (4,)})
    assert model[1].weight is model[0].weight
    assert sizes(model[1], "in_features", "out_features") == (6, 4)


@pytest.mark.parametrize(
    ("layer", "shapes", "words"),
    [
        (
            nn.Linear(6, 8),
            {"weight": (9, 6)},
            r"weight: the stored shape is \[9, 6\], the original \[8, 6\];",
        ),
        (nn.Linear(6, 8), {"weight": (1 << 60, 1 << 60)}, "a smaller network has as many dimensions, each from 1"),
        (nn.Linear(6, 8), {"weight": (0, 6)}, "each from 1 to the original"),
        (nn.Linear(6, 8), {"weight": (-1, 6)}, "each from 1 to the original"),
        (nn.Linear(6, 8), {"weight": (48,)}, "as many dimensions"),
        (nn.BatchNorm2d(8), {"running_mean": (9,)}, "running_mean: .* each from 1 to the original"),
        (nn.BatchNorm2d(8), {"num_batches_tracked": (1,)}, "num_batches_tracked: .* as many dimensions"),
        (nn.Conv2d(6, 8, 3), {"weight": (8, 6, 1, 3)}, "only channels .the first two dimensions. can be fewer"),
        (nn.GroupNorm(2, 8), {"weight": (4,)}, "channels of a GroupNorm are never removed"),
        (nn.ConvTranspose2d(6, 8, 3), {"weight": (6, 4, 3, 3)}, "channels of a ConvTranspose2d are never removed"),
        (nn.Embedding(6, 8), {"weight": (6, 4)}, "channels of a Embedding are never removed"),
    ],
)
def test_other_shapes_are_refused(layer: nn.Module, shapes: Shapes, words: str) -> None:
    with pytest.raises(CheckpointError, match=f"{words}.*; make it again with `mobileprune prune`"):
        resize(layer, shapes)


def weights(**changes: tuple[int, ...]) -> dict[str, Tensor]:
    """Of a network with 4 of 8 hidden units left, but for ``changes``."""
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (4, 6), "0.bias": (4,), "2.weight": (3, 4), "2.bias": (3,)}
    return {name: torch.ones(shape) for name, shape in (shapes | changes).items()}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_a_smaller_network_computes_what_its_weights_say() -> None:
    model = network()
    output = refit(model, weights(), torch.ones(2, 6), "it")
    assert output.tolist() == [[29.0] * 3] * 2
    assert torch.equal(model(torch.ones(2, 6)), output)
    assert not model.training


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"2.weight": (3, 5)},
            "it makes no network that works .RuntimeError: mat1 and mat2 shapes",
        ),
        ({"0.bias": (5,)}, "it makes no network that works"),
        ({"3.weight": (3, 5)}, "it does not fit the model: the model has no 3.weight"),
    ],
)
def test_shapes_that_do_not_go_together_are_refused(changed: Shapes, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        refit(network(), weights(**changed), torch.ones(2, 6), "it")


SHAPES: Shapes = {"0.weight": (5, 6), "2.weight": (3, 5)}


def test_removed_channels_explain_the_output_channels() -> None:
    check_removed(network(), SHAPES, {"0.weight": [0, 3, 7]})
    check_removed(network(), shapes_of(network().state_dict()), {})


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ({}, r"0.weight: 0 of 8 output channels are removed, but the weights have shape \[5, 6\]"),
        ({"0.weight": [0, 3]}, "0.weight: 2 of 8 output channels are removed, but"),
        ({"0.weight": [0, 3, 7], "2.weight": [0]}, "2.weight: 1 of 3 output channels are removed, but"),
        ({"0.weight": [0, 3, 3]}, "removed_channels of 0.weight: must be different numbers from 0 to 7"),
        ({"0.weight": [0, 3, 8]}, "must be different numbers from 0 to 7"),
        ({"0.weight": [0, 3, -1]}, "must be different numbers from 0 to 7"),
        ({"0.weight": [0, 3, 7], "0.bias": [0, 3, 7]}, "'0.bias' is no weight of a convolution or linear layer"),
        ({"0.weight": [0, 3, 7], "9.weight": []}, "'9.weight' is no weight of a convolution or linear layer"),
    ],
)
def test_removed_channels_that_do_not_are_refused(removed: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        check_removed(network(), SHAPES, removed)
    if removed:
        with pytest.raises(CheckpointError, match=r"shape \[\]"):
            check_removed(network(), {"2.weight": (3, 5)}, {"0.weight": [0]})
