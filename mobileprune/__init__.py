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
    from mobileprune.api import configure as configure
    from mobileprune.api import context as context
    from mobileprune.api import export as export
    from mobileprune.api import inspect as inspect
    from mobileprune.api import prune as prune
    from mobileprune.api import report as report
    from mobileprune.api import train as train

__version__ = "0.1.0"

VERBS = ("attack", "audit", "bench", "configure", "context", "export", "inspect", "prune", "report", "train")


def _lazy(verb: str) -> property:
    def get(module: ModuleType) -> Any:
        return getattr(importlib.import_module("mobileprune.api"), verb)

    # Importing the subpackage mobileprune.export would rebind the name `export`: the verb stays.
    return property(get, lambda module, value: None)


class _Package(ModuleType):
    """Some verbs share their name with a subpackage; ``mobileprune.export(...)`` is always the verb."""


for _verb in VERBS:
    setattr(_Package, _verb, _lazy(_verb))
sys.modules[__name__].__class__ = _Package
