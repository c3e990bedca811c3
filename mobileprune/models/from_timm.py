"""``timm:NAME``: any model of timm (PyTorch Image Models), freshly initialised. Nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from mobileprune.errors import UsageError
from mobileprune.torchvision_import import torchvision


def builder(name: str) -> Callable[..., nn.Module]:
    timm = _timm()
    if not timm.is_model(name):  # a name that leads to the Hugging Face hub or to a folder is none either
        names = timm.list_models()
        near = ", ".join(map(repr, difflib.get_close_matches(name, names)))
        hint = f"did you mean {near}? " if near else ""
        raise UsageError(f"unknown timm model {name!r}: {hint}timm.list_models() gives all {len(names)}")
    return partial(_classifier, name)


def _classifier(name: str, num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes). The image size is told to those that are made for one size."""
    timm = _timm()
    channels, *size = input_shape
    config = timm.get_pretrained_cfg(name)
    given = {"img_size": tuple(size)} if config and config.fixed_input_size else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels, **given)
    return model


def _timm() -> Any:
    torchvision("models")  # timm imports torchvision too
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f"timm cannot be imported ({error}): pip install 'mobileprune[timm]'") from error
