"""``torchvision:NAME``: any classifier of torchvision.models, freshly initialised. Nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import nn

from mobileprune.errors import unknown
from mobileprune.torchvision_import import torchvision

SMALL = 64
"""Images with a side below this get the small-image form of a network, where there is one."""


def has(name: str) -> bool:
    models = torchvision("models")
    return name in models.list_models(module=models)


def builder(name: str) -> Callable[..., nn.Module]:
    """The function that builds classifier ``name``; it takes ``width_mult`` where the network does."""
    models = torchvision("models")
    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision model", name, names)
    if "width_mult" in _parameters(name):
        return partial(classifier, name)

    def fixed_width(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        return classifier(name, num_classes, input_shape)

    return fixed_width


def classifier(name: str, num_classes: int, input_shape: tuple[int, int, int], width_mult: float = 1.0) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes). A square image's size is told to those that are made for one size."""
    channels, height, width = input_shape
    offered: dict[str, Any] = {
        "aux_logits": False,  # of Inception and GoogLeNet: a second output
        "init_weights": True,  # of Inception and GoogLeNet: they warn when it is left open
        "input_size": (height, width),
        "width_mult": width_mult,
    }
    if height == width:
        offered["image_size"] = height
    taken = _parameters(name)
    given = {key: value for key, value in offered.items() if key in taken}
    model: nn.Module = torchvision("models").get_model(name, weights=None, num_classes=num_classes, **given)
    return adapt_channels(model, channels)


def adapt_channels(model: nn.Module, channels: int) -> nn.Module:
    """Let the first convolution of ``model`` take images of ``channels`` channels, in place, all else as it is.

    Its initial weights (O, I, h, w) are repeated or cut along I, so that they follow the network's own distribution.
    """
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels != channels:
        chosen = torch.arange(channels, device=conv.weight.device) % conv.in_channels
        conv.weight = nn.Parameter(conv.weight.detach()[:, chosen])
        conv.in_channels = channels
    return model


def _parameters(name: str) -> set[str]:
    """What the network's class can be given."""
    build = torchvision("models").get_model_builder(name)
    named = set(inspect.signature(get_type_hints(build)["return"]).parameters)
    return named | {"width_mult"} if name.startswith("mobilenet_v3") else named  # there it hides in **kwargs
