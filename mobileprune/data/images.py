"""The plain value that every data set becomes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import DataError
from mobileprune.lazy import Lazy


@dataclass(frozen=True)
class Images:
    """Labelled images: ``pixels`` (N, C, H, W) uint8, ``labels`` (N,) int64 in [0, len(classes)).

    ``pixels`` may be larger than memory: take slices of :meth:`rows`.
    ``member`` (N,) bool, where the data say which images a given model was trained on. ``files``: N paths relative to
    the data's folder, where they come from one: for a report, never for what leaves with the model.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    member: NDArray[np.bool_] | None = None
    files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] not in (1, 3):
            raise DataError(
                f"{self.name}: images must be uint8 of shape (N, C, H, W) with 1 or 3 channels, "
                f"got {self.pixels.dtype} {self.pixels.shape}"
            )
        if self.labels.shape != (len(self.pixels),):
            raise DataError(f"{self.name}: {len(self.pixels)} images but labels of shape {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"{self.name}: labels must lie in [0, {len(self.classes)}), "
                f"got {self.labels.min()} to {self.labels.max()}"
            )
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: a classifier needs at least 2 classes, got {len(self.classes)}")
        if self.member is not None and (self.member.dtype != np.bool_ or self.member.shape != self.labels.shape):
            raise DataError(
                f"{self.name}: 'member' must hold {len(self.labels)} booleans, "
                f"got {self.member.dtype} {self.member.shape}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def rows(self, rows: NDArray[np.int64]) -> Lazy[np.uint8]:
        """Stands for ``pixels[rows]``."""
        return Lazy(rows, lambda part: self.pixels[part], self.shape)

    def sha256(self) -> str:
        """Hash of pixels and labels; names what a result was measured on."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        hasher = hashlib.sha256(repr((self.pixels.shape, self.classes)).encode())
        hasher.update(np.ascontiguousarray(self.pixels).data)
        hasher.update(np.ascontiguousarray(self.labels).data)
        if self.member is not None:
            hasher.update(np.ascontiguousarray(self.member).data)
        return hasher.hexdigest()
