"""Models by name (``MODELS``) or by the user's import path (``package.module:function``)."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from mobileprune.errors import MobilepruneError, UsageError, unknown
from mobileprune.files import sha256
from mobileprune.models.lenet5 import lenet5
from mobileprune.seeding import stream

Build = Callable[..., nn.Module]
MODELS: dict[str, Build] = {"lenet5": lenet5}


def build(name: str, *, num_classes: int, input_shape: tuple[int, int, int], seed: int) -> nn.Module:
    """A freshly initialised model that gives logits (N, num_classes) for (N, *input_shape).

    User functions get ``num_classes`` and ``input_shape`` if they take them. UsageError where the name or
    the function is of no use.
    """
    import torch

    function = _user_function(name) if ":" in name else MODELS.get(name)
    if function is None:
        raise unknown("model", name, [*MODELS, "package.module:function"])
    offered = {"num_classes": num_classes, "input_shape": input_shape}
    try:
        signature = inspect.signature(function)
        given = {key: value for key, value in offered.items() if key in signature.parameters}
        signature.bind(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--model {name}: {error}; it may take num_classes and input_shape, nothing else") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "init"))
        try:
            model = function(**given)
        except MobilepruneError:
            raise
        except Exception as error:  # any code of the user's
            raise UsageError(f"--model {name} failed: {_one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"--model {name} returned {type(model).__name__}; it must return a torch.nn.Module")
    try:
        with torch.inference_mode():
            output = model.eval()(torch.zeros(2, *input_shape))
    except Exception as error:  # any code of the user's
        raise UsageError(f"--model {name} cannot take images {input_shape}: {_one_line(error)}") from error
    shape = tuple(getattr(output, "shape", ()))
    if shape != (2, num_classes):
        raise UsageError(f"--model {name} gives {shape or type(output).__name__} for 2 images, not (2, {num_classes})")
    return model


def _user_function(name: str) -> Build:
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:  # as `python -m` does, so that a script beside the user is found
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # any code of the user's
        raise UsageError(
            f"--model {name}: cannot import ({_one_line(error)}); write package.module:function"
        ) from error
    if not callable(function):
        raise UsageError(f"--model {name}: {function_name} is not a function")
    return function  # type: ignore[no-any-return]


def code_digest(name: str) -> str | None:
    """SHA-256 of the file that defines a user's function: changed code must not answer with an old result."""
    if ":" not in name:
        return None
    file = inspect.getsourcefile(_user_function(name))
    return sha256(Path(file)) if file else None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
