"""``package.module:function``: a model function of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from torch import nn

from mobileprune.errors import UsageError
from mobileprune.torchvision_import import repaired


def function(name: str) -> Callable[..., nn.Module]:
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:  # as `python -m` does, so that a script beside the user is found
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(repaired(lambda: importlib.import_module(module_name)), function_name)
    except Exception as error:  # any code of the user's
        raise UsageError(f"--model {name}: cannot import ({one_line(error)}); write package.module:function") from error
    if not callable(found):
        raise UsageError(f"--model {name}: {function_name} is not a function")
    return found  # type: ignore[no-any-return]


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
