"""Import torchvision also where its compiled operators do not fit the installed torch.

The registry's Linux wheels of torchvision are CUDA builds; with a CPU torch, ``import torchvision``
fails with "operator torchvision::nms does not exist". Models, datasets and transforms need none of
those operators, so their schemas are declared (without implementation) and the import tried again.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_declared: list[object] = []  # a torch.library.Library unregisters its schemas when collected


def torchvision(submodule: str) -> ModuleType:
    """``torchvision.<submodule>``, for example ``torchvision("datasets")``."""
    name = f"torchvision.{submodule}"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    import torch

    for module in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module(name)
