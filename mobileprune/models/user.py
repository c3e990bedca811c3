"""``package.module:function``: a model function of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from torch import nn

from mobileprune.errors import UsageError, one_line
from mobileprune.torchvision_import import repaired


@contextmanager
def importable_here() -> Iterator[None]:
    """Meanwhile the current folder comes first on the path, as that of a script does, so that the user's code is found.

    Not for longer: torch tries imports of packages that may be absent, such as ``z3``, and takes any folder of that
    name for the package, wherever on the path it lies.
    """
    here = os.getcwd()
    if here in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have taken it off
            sys.path.remove(here)


def function(name: str) -> Callable[..., nn.Module]:
    """What ``name`` leads to; it is to be called inside of :func:`importable_here` too, for imports of its own."""
    module_name, _, function_name = name.partition(":")
    try:
        with importable_here():
            found = getattr(repaired(lambda: importlib.import_module(module_name)), function_name)
    except Exception as error:  # any code of the user's
        raise UsageError(
            f"--model {name}: cannot import ({one_line(error, kind=True)}); write package.module:function"
        ) from error
    if not callable(found):
        raise UsageError(f"--model {name}: {function_name} is not a function")
    return found  # type: ignore[no-any-return]
