"""Models by name (``MODELS``) or by the user's import path (``package.module:function``)."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable

from torch import nn

from mobileprune.errors import UsageError, unknown
from mobileprune.models.lenet5 import lenet5
from mobileprune.seeding import stream

Build = Callable[..., nn.Module]
MODELS: dict[str, Build] = {"lenet5": lenet5}


def build(name: str, *, num_classes: int, input_shape: tuple[int, int, int], seed: int) -> nn.Module:
    """A freshly initialised model. User functions get ``num_classes`` and ``input_shape`` if they take them."""
    import torch

    function = _user_function(name) if ":" in name else MODELS.get(name)
    if function is None:
        raise unknown("model", name, [*MODELS, "package.module:function"])
    offered = {"num_classes": num_classes, "input_shape": input_shape}
    taken = inspect.signature(function).parameters
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, "init"))
        model = function(**{key: value for key, value in offered.items() if key in taken})
    if not isinstance(model, nn.Module):
        raise UsageError(f"--model {name} returned {type(model).__name__}; it must return a torch.nn.Module")
    return model.eval()


def _user_function(name: str) -> Build:
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:  # as `python -m` does, so that a script beside the user is found
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--model {name}: cannot import ({error}); write package.module:function") from error
    if not callable(function):
        raise UsageError(f"--model {name}: {function_name} is not a function")
    return function  # type: ignore[no-any-return]
