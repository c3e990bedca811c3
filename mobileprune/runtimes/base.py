"""What every runtime shares: preprocessing as the app would do it, batching, and checks of what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune.artifact import Manifest
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.lazy import Sliced, slices

Session = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Normalised input (N, C, H, W) float32 -> logits (N, K) float32."""
MAX_FILE_BYTES = 2**31 - 1
"""Of protobuf and flatbuffers, whose offsets are signed."""


@dataclass(frozen=True)
class RuntimeOptions:
    """``native``: sparse layers may run on the native library, where it is."""

    num_threads: int
    input_name: str
    input_shape: tuple[int, int, int]
    native: bool = True


class Runtime:
    """An exported file ready to answer queries; nothing of the training side can be reached through it."""

    def __init__(self, session: Session, manifest: Manifest) -> None:
        self._session, self._manifest = session, manifest

    def predict(self, pixels: Sliced[np.float32], batch_size: int = 256) -> NDArray[np.float32]:
        """Pixels (N, C, H, W) float32 in [0, 1] -> logits (N, K) float32."""
        expected = self._manifest.input_shape
        if pixels.shape[1:] != expected:
            raise UsageError(
                f"input of shape {pixels.shape} does not fit this model: it takes (N, {', '.join(map(str, expected))})"
            )
        if not len(pixels):
            return np.zeros((0, self._manifest.num_classes), np.float32)
        batches = (normalised(pixels[part], self._manifest) for part in slices(len(pixels), batch_size))
        return np.concatenate([self._answer(x) for x in batches])

    def _answer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        logits, expected = self._session(x), (len(x), self._manifest.num_classes)
        if logits.shape != expected:
            raise ArtifactError(
                f"the model returned outputs of shape {logits.shape}, its manifest says {expected}; export again"
            )
        return logits


def normalised(pixels: NDArray[np.float32], manifest: Manifest) -> NDArray[np.float32]:
    """What the file is fed for pixels (N, C, H, W) in [0, 1]: (pixels - mean) / std, unless the file does so itself."""
    if manifest.preprocessing_baked:
        return pixels
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (manifest.mean, manifest.std))
    x: NDArray[np.float32] = pixels - mean
    x /= std
    return x


def checked_size(path: Path, kind: str) -> int:
    """Bytes of a model file; ArtifactError where they are more than ``kind``, such as "an ONNX file", can have."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ArtifactError(f"{path}: {size:,} bytes are more than {kind} can have ({MAX_FILE_BYTES:,})")
    return size
