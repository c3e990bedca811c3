"""Models by name: of mobileprune (``MODELS``), of torchvision or timm (``FAMILIES``), or the user's own.

lenet5, resnet8, ...        MODELS
torchvision:NAME, timm:NAME FAMILIES; freshly initialised, nothing is downloaded
package.module:function     the user's; a package called torchvision or timm can't be reached this way
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobileprune.config import NORMS
from mobileprune.errors import MobilepruneError, UsageError, one_line, unknown
from mobileprune.files import sha256
from mobileprune.models import from_timm, from_torchvision, user
from mobileprune.models.group_norm import refusing_groups_of_one, to_group_norm
from mobileprune.models.lenet5 import lenet5
from mobileprune.models.mobilenetv2 import mobilenetv2
from mobileprune.models.resnet import resnet8, resnet20
from mobileprune.models.resnet18 import resnet18
from mobileprune.models.vgg16_bn import vgg16_bn
from mobileprune.seeding import stream
from mobileprune.torchvision_import import repaired

Build = Callable[..., nn.Module]
MODELS: dict[str, Build] = {
    "lenet5": lenet5,
    "mobilenetv2": mobilenetv2,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "vgg16_bn": vgg16_bn,
}
FAMILIES: dict[str, Callable[[str], Build]] = {"torchvision:": from_torchvision.builder, "timm:": from_timm.builder}
PACKAGES = {
    "mobilenetv2": "torchvision",
    "resnet18": "torchvision",
    "vgg16_bn": "torchvision",
    "torchvision:": "torchvision",
    "timm:": "timm",
}
"""A model's name, or its prefix, and whose code it is."""


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    seed: int,
    width_mult: float = 1.0,
    norm: str = "batch",
) -> nn.Module:
    """A freshly initialised model that gives logits (N, num_classes) for (N, *input_shape), in eval mode.

    Functions get ``num_classes``, ``input_shape`` and ``width_mult`` if they take them. With ``norm`` "group" every
    batch norm is replaced by group norm. UsageError where the name, the function or the model is of no use.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    function = _function(name)
    offered = {"num_classes": num_classes, "input_shape": input_shape, "width_mult": width_mult}
    given = _taken(name, function, offered)
    if width_mult != 1 and "width_mult" not in given:
        raise UsageError(f"--width-mult {width_mult:g}: {name} has no width multiplier; leave it out")

    def initialise() -> nn.Module:
        torch.manual_seed(stream(seed, "init"))
        return function(**given)

    with torch.random.fork_rng(devices=[]), user.importable_here() if is_users(name) else nullcontext():
        try:
            model = repaired(initialise)
        except MobilepruneError:
            raise
        except Exception as error:  # any code of the user's
            raise UsageError(f"--model {name} failed: {one_line(error, kind=True)}") from error
        if not isinstance(model, nn.Module):
            raise UsageError(f"--model {name} returned {type(model).__name__}; it must return a torch.nn.Module")
        _try(name, model, num_classes, input_shape)  # here lazy layers draw their weights
        if norm == "group":
            model = to_group_norm(model)
            with refusing_groups_of_one(model):
                _try(name, model, num_classes, input_shape)
    return model


def lookalikes(name: str, *, num_classes: int, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    """Models whose weights are easily taken for those of ``name``: torchvision's network that ours has the name of,
    where ours is another one for small images."""
    theirs = f"torchvision:{name}"
    if name not in MODELS or not from_torchvision.has(name):
        return {}
    try:
        return {theirs: build(theirs, num_classes=num_classes, input_shape=input_shape, seed=0)}
    except UsageError:  # it cannot take images as small as these
        return {}


def code_digest(name: str) -> str | None:
    """What the code of a model is known by: changed code must not answer with an old result.

    The SHA-256 of the file that defines a user's function, the version of the package that brings the model,
    or None for those of mobileprune itself.
    """
    prefix, colon, _ = name.partition(":")
    package = PACKAGES.get(prefix + colon)
    if package:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError as error:
            raise UsageError(f"--model {name} needs {package}: pip install 'mobileprune[{package}]'") from error
    file = inspect.getsourcefile(user.function(name)) if colon else None
    return sha256(Path(file)) if file else None


def is_users(name: str) -> bool:
    """Whether building ``name`` runs code of the user's."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix + colon not in FAMILIES


def _function(name: str) -> Build:
    prefix, colon, rest = name.partition(":")
    if prefix + colon in FAMILIES:
        return FAMILIES[prefix + colon](rest)
    if colon:
        return user.function(name)
    if name not in MODELS:
        if from_torchvision.has(name):
            raise UsageError(f"unknown model {name!r}: did you mean 'torchvision:{name}'?")
        raise unknown("model", name, [*MODELS, *(f"{family}NAME" for family in FAMILIES), "package.module:function"])
    return MODELS[name]


def _taken(name: str, function: Build, offered: dict[str, Any]) -> dict[str, Any]:
    """Those of ``offered`` that ``function`` takes; UsageError when it needs more."""
    try:
        signature = inspect.signature(function)
        given = {key: value for key, value in offered.items() if key in signature.parameters}
        signature.bind(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--model {name}: {error}; it may take {', '.join(offered)}, nothing else") from error
    return given


def _try(name: str, model: nn.Module, num_classes: int, input_shape: tuple[int, int, int]) -> None:
    """UsageError unless the model gives logits for two black images."""
    try:
        with torch.no_grad():  # lazy layers could not be trained after inference mode
            output = model.eval()(torch.zeros(2, *input_shape))
    except MobilepruneError:
        raise
    except Exception as error:  # any code of the user's
        raise UsageError(f"--model {name} cannot take images {input_shape}: {one_line(error, kind=True)}") from error
    shape = tuple(getattr(output, "shape", ()))
    if shape != (2, num_classes):
        raise UsageError(f"--model {name} gives {shape or type(output).__name__} for 2 images, not (2, {num_classes})")
