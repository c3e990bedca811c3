"""mobileprune: prune an image classifier, export it, and re-attack the exported file.

The functions of :mod:`mobileprune.api` are offered here and imported on first use (torch costs a second).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobileprune.api import attack as attack
    from mobileprune.api import audit as audit
    from mobileprune.api import bench as bench
    from mobileprune.api import compare as compare
    from mobileprune.api import configure as configure
    from mobileprune.api import context as context
    from mobileprune.api import devices as devices
    from mobileprune.api import explain as explain
    from mobileprune.api import export as export
    from mobileprune.api import inspect as inspect
    from mobileprune.api import lint as lint
    from mobileprune.api import log as log
    from mobileprune.api import prune as prune
    from mobileprune.api import report as report
    from mobileprune.api import sweep as sweep
    from mobileprune.api import train as train

__version__ = "0.1.0"

VERBS = (
    "attack",
    "audit",
    "bench",
    "compare",
    "configure",
    "context",
    "devices",
    "explain",
    "export",
    "inspect",
    "lint",
    "log",
    "prune",
    "report",
    "sweep",
    "train",
)

LIGHT = ("compare", "inspect")
"""Those that take no torch, and not the second that it costs."""

__all__ = ["__version__", *VERBS]


class _Verb:
    """A function of the API, imported when called; its other attributes are those of the subpackage of that name."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    @property
    def __wrapped__(self) -> Any:
        module = "mobileprune.inspection" if self.__name__ in LIGHT else "mobileprune.api"
        return getattr(importlib.import_module(module), self.__name__)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__wrapped__.__doc__  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.__wrapped__(*args, **options)

    def __getattr__(self, name: str) -> Any:
        """``import mobileprune.export.onnx as x`` looks for ``onnx`` here."""
        module = sys.modules.get(f"mobileprune.{self.__name__}") if not name.startswith("_") else None
        if module is None:
            raise AttributeError(name)
        return getattr(module, name)


def _always(verb: _Verb) -> property:
    # Importing the subpackage mobileprune.export sets the name `export`: the verb stays.
    return property(lambda module: verb, lambda module, value: None)


class _Package(ModuleType):
    """Some verbs share their name with a subpackage; ``mobileprune.export(...)`` is always the verb."""

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *VERBS})


for _name in VERBS:
    setattr(_Package, _name, _always(_Verb(_name)))
sys.modules[__name__].__class__ = _Package
