"""A model that we did not make and that can be asked: a function of the user's, or a model file without a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError, DataError, UsageError, one_line
from mobileprune.export import TARGETS
from mobileprune.files import sha256
from mobileprune.foreign.signature import Shape, signature
from mobileprune.lazy import Sliced
from mobileprune.models import user
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

Pixels = Sliced[np.float32]
Predict = Callable[[NDArray[np.float32]], Any]
BATCH = 256
TARGET_OF = {Path(target.file).suffix: name for name, target in TARGETS.items()}
"""Suffix of a model file -> the target whose runtime opens it."""


@dataclass(frozen=True)
class Model:
    """``predict``: pixels (N, C, H, W) float32 in [0, 1] -> what it answers, (N, K) of any real type.

    ``identity`` names all that its answers depend on; None: they can be kept nowhere, since code may change.
    """

    kind: Literal["function", "file"]
    name: str
    predict: Callable[[Pixels], NDArray[Any]]
    sha256: str | None = None
    identity: dict[str, Any] | None = None


def is_file(path: Path) -> bool:
    """Whether ``path`` names a model file, and not the folder of an artifact."""
    return path.suffix in TARGET_OF and not path.is_dir()


def of_function(given: str | Predict) -> Model:
    """``package.module:function``, or the function itself; UsageError when it cannot be imported."""
    if isinstance(given, str):
        try:
            name, function = given, user.function(given)
        except UsageError as error:
            raise UsageError(str(error).replace("--model", "--predict", 1)) from error
    else:
        name = f"{getattr(given, '__module__', '')}:{getattr(given, '__qualname__', type(given).__qualname__)}"
        function = given

    def answer(x: NDArray[np.float32]) -> NDArray[Any]:
        try:
            with user.importable_here():
                return np.asarray(function(x))
        except Exception as error:  # any code of the user's
            raise ArtifactError(
                f"--predict {name}: failed on {len(x)} images ({one_line(error, kind=True)})"
            ) from error

    return Model("function", name, lambda pixels: _in_batches(answer, pixels, BATCH, f"--predict {name}"))


def of_file(path: Path, image: Shape, mean: list[float] | None, std: list[float] | None, num_threads: int = 1) -> Model:
    """The file in its runtime, with all of the runtime's checks, fed ``(pixels - mean) / std`` of images (C, H, W).

    ArtifactError for a file that is corrupt, unsafe, or takes other images; TargetUnavailableError without its runtime.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    takes = signature(path)
    shape, last, single = takes.layout(path, image)
    target, digest = TARGET_OF[path.suffix], sha256(path)
    session = RUNTIMES[target](path, RuntimeOptions(num_threads, takes.name, shape))
    centre, scale = (np.asarray(v, np.float32)[:, None, None] for v in (mean or [0.0], std or [1.0]))

    def answer(x: NDArray[np.float32]) -> NDArray[Any]:
        x = (x - centre) / scale
        return session(np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x)

    identity = {"file": digest, "target": target, "mean": mean, "std": std}
    batch = 1 if single else BATCH
    return Model("file", path.name, lambda pixels: _in_batches(answer, pixels, batch, str(path)), digest, identity)


def _in_batches(
    answer: Callable[[NDArray[np.float32]], NDArray[Any]], pixels: Pixels, size: int, name: str
) -> NDArray[Any]:
    found: list[NDArray[Any]] = []
    for start in range(0, len(pixels), size):
        x = pixels[start : start + size]
        values = answer(x)
        expected = (len(x), *(found[0].shape[1:] if found else values.shape[1:]))
        if values.shape != expected or values.ndim != 2:
            raise DataError(
                f"{name}: {len(x)} images gave outputs of shape {values.shape}, must be ({len(x)}, classes)"
            )
        found.append(values)
    return np.concatenate(found) if found else np.zeros((0, 2), np.float32)
