"""What is in a file (:func:`inspect`) and what differs between two (:func:`compare`); none of it imports torch.

:mod:`~mobileprune.inspection.explanation` says what an export is going to bring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobileprune.inspection.difference import Difference
from mobileprune.inspection.view import View, look

__all__ = ["Difference", "View", "compare", "inspect", "look"]


def inspect(artifact: str | Path) -> dict[str, Any]:
    """The verified manifest as plain JSON values, and as ``contents`` the file's layers, multiplications and operators.

    Somebody's ``.onnx`` file (or another kind of :data:`mobileprune.inspection.readers.READERS`) has no manifest: then
    only what it tells itself is there. Raises ArtifactError when it cannot be read.
    """
    return look(Path(artifact)).to_dict()


def compare(a: str | Path, b: str | Path) -> Difference:
    """What differs between two artifacts, or model files as :func:`inspect` takes them; raises as that does."""
    return Difference(look(Path(a)), look(Path(b)))
