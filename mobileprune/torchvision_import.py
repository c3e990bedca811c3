"""Import torchvision also where its compiled operators do not fit the installed torch.

The registry's Linux wheels of torchvision are CUDA builds; with a CPU torch, ``import torchvision``
fails with "operator torchvision::nms does not exist". Models, datasets and transforms need none of
those operators, so their schemas are declared (without implementation) and the import tried again.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
_declared: list[object] = []  # a torch.library.Library unregisters its schemas when collected


def torchvision(submodule: str) -> ModuleType:
    """``torchvision.<submodule>``, for example ``torchvision("datasets")``."""
    return repaired(lambda: importlib.import_module(f"torchvision.{submodule}"))


def repaired(action: Callable[[], T]) -> T:
    """``action()``, which may import torchvision, and again with the schemas declared where that failed."""
    try:
        return action()
    except RuntimeError as error:
        if _declared or "torchvision::nms does not exist" not in str(error):
            raise
    import torch

    for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return action()
