"""Pattern "channel": channels that cannot be taken out stay, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.channels import Net, bn, channels, check, conv, made, pooled
from support.pruning import SHAPE, space
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.errors import UsageError
from mobileprune.pruning.channels import last_layer
from mobileprune.pruning.masks import prunable


def between(operation: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> tuple[nn.Module, Tensor]:
    """A net in which only ``operation`` stands between stem and last, which takes 8 channels as stem gives them."""

    def flow(net: Any, x: Tensor) -> Tensor:
        return pooled(net, net.last(operation(net, net.stem(x))))

    torch.manual_seed(0)
    return made(Net(flow, stem=conv(1, 8), last=bn(8, 6), head=nn.Linear(6, 3), **layers))


def over_channels(net: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(x.movedim(1, -1), [8]).movedim(-1, 1)


def shuffled(net: Any, x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def response(net: Any, x: Tensor) -> Tensor:
    """As in ConvNeXt V2: the share of the mean over channels, written out."""
    strength = x.square().mean((2, 3), keepdim=True)
    return x * (strength / (strength.mean(1, keepdim=True) + 1e-3))


def split(net: Any, x: Tensor) -> Tensor:
    first, second = x.split([2, 6], 1)
    return torch.cat([first, second.relu()], 1)


CHANGES = "removing its output channels is not the same as masking them"
COUNTS = "the model's own code counts on its output channels"
STAY: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, nn.Module], str]] = {
    "layer norm": (
        lambda net, x: net.norm(x),
        {"norm": nn.LayerNorm([8, 4, 4])},
        "layer normalisation runs over its output channels",
    ),
    "group norm": (
        lambda net, x: net.norm(x),
        {"norm": nn.GroupNorm(2, 8)},
        "group normalisation runs over its output channels",
    ),
    "layer norm as a function": (over_channels, {}, "layer normalisation runs over its output channels"),
    "softmax": (lambda net, x: x.softmax(1), {}, "softmax runs over its output channels"),
    "norm without scale": (
        lambda net, x: net.norm(x),
        {"norm": nn.BatchNorm2d(8, affine=False)},
        "normalisation without a scale moves its masked channels away from 0",
    ),
    "mean over channels": (response, {}, CHANGES),
    "shuffle": (shuffled, {}, CHANGES),
    "sum of halves": (
        lambda net, x: net.after(x[:, :4] + x[:, 4:]),
        {"after": conv(4, 8)},
        "the analysis ties its output channels to each other",
    ),
    "sum of quarters": (
        lambda net, x: net.after(torch.cat([x[:, :2] + x[:, 2:4], x[:, 4:]], 1)),
        {"after": conv(6, 8)},
        "the analysis ties its output channels to each other",
    ),
    "halves in turn": (
        lambda net, x: x * torch.cat(x.chunk(2, 1)[::-1], 1),
        {},
        "the analysis of its output channels does not end",
    ),
    "fixed split": (split, {}, COUNTS),
    "fixed view": (lambda net, x: x.view(len(x), 8, 16).view(len(x), 8, 4, 4), {}, COUNTS),
    "transposed convolution": (
        lambda net, x: net.up(x),
        {"up": nn.ConvTranspose2d(8, 8, 1)},
        "ConvTranspose2d takes part in it",
    ),
}


@pytest.mark.parametrize("name", STAY)
def test_channels_that_cannot_be_taken_out_stay_with_a_reason(name: str) -> None:
    operation, layers, reason = STAY[name]
    model, x = between(operation, **layers)
    found = channels(model, x)
    assert {s.name for s in found.sites} == {"last.0.weight", "after.weight"} & set(prunable(model))
    assert found.left_dense == {"stem.weight": reason, "head.weight": "its output channels are the classes"}
    check(model, x, found)


def test_only_the_layers_that_cannot_be_cut_stay_wherever_they_are() -> None:
    def flow(net: Any, x: Tensor) -> Tensor:
        x = split(net, net.third(shuffled(net, net.second(net.first(x)))))
        return pooled(net, net.fifth(shuffled(net, net.fourth(x))))

    torch.manual_seed(0)
    second, third, fourth = conv(8, 8), conv(8, 8), conv(8, 8)
    model, x = made(
        Net(flow, first=bn(1, 8), second=second, third=third, fourth=fourth, fifth=bn(8, 6), head=nn.Linear(6, 3))
    )
    found = channels(model, x)
    assert [s.name for s in found.sites] == ["first.0.weight", "fifth.0.weight"]
    assert found.left_dense == {
        "second.weight": CHANGES,
        "third.weight": COUNTS,
        "fourth.weight": CHANGES,
        "head.weight": "its output channels are the classes",
    }
    check(model, x, found)


def test_a_model_without_removable_channels_is_refused_with_the_reasons() -> None:
    model = nn.Sequential(conv(1, 8), nn.LayerNorm([8, 4, 4]), nn.Flatten(), nn.Linear(128, 3))
    message = (
        r"--pattern channel: Sequential has no channels that could be removed: layer normalisation runs over its "
        r"output channels \(1 layers\), its output channels are the classes \(1 layers\); use --pattern filter"
    )
    with pytest.raises(UsageError, match=message):
        space(model, pattern="channel")


def test_a_model_beyond_the_analysis_is_refused_with_its_error() -> None:
    def flow(net: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise ValueError("only for inference")
        return pooled(net, net.stem(x))

    model = Net(flow, stem=bn(1, 8), head=nn.Linear(8, 3))
    message = r"--pattern channel: Net is beyond torch-pruning \(ValueError: only for inference\); use --pattern filter"
    with pytest.raises(UsageError, match=message):
        space(model, pattern="channel")


@pytest.mark.parametrize("layers", [{}, {"first": conv(1, 4)}])
def test_the_last_layer_is_the_one_called_last(layers: dict[str, nn.Module]) -> None:
    defined_first = nn.Linear(8, 3)
    model = Net(lambda net, x: pooled(net, net.stem(x)), head=defined_first, **layers, stem=bn(1, 8))
    assert last_layer(model, torch.zeros(2, *SHAPE)) == "head.weight"
    assert last_layer(nn.Linear(4, 3), torch.zeros(2, 4)) == "weight"
    with pytest.raises(UsageError, match="calls no convolution or linear layer as a module"):
        last_layer(Net(lambda net, x: x, **layers), torch.zeros(2, *SHAPE))
