"""Arrays that exist only where they are sliced, for data larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Lazy(Generic[Number]):
    """Stands for the images ``make(rows)`` (N, C, H, W), of which each slice is made when it is asked for."""

    rows: NDArray[np.int64]
    make: Callable[[NDArray[np.int64]], NDArray[Number]]
    image_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.image_shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> NDArray[Number]:
        return self.make(self.rows[part])


Sliced = NDArray[Number] | Lazy[Number]
"""What is read slice by slice: an array, or what stands for one."""


def joined(first: Sliced[Number], second: Sliced[Number]) -> Lazy[Number]:
    """Stands for both, one after the other."""

    def make(rows: NDArray[np.int64]) -> NDArray[Number]:
        inside = rows < len(first)
        return np.concatenate([first[rows[inside]], second[rows[~inside] - len(first)]])

    return Lazy(np.arange(len(first) + len(second)), make, first.shape[1:])


def slices(count: int, size: int) -> Iterator[slice]:
    """Those that cut ``count`` into ``size`` each, in order; an empty one of nothing."""
    for start in range(0, max(1, count), size):
        yield slice(start, min(start + size, count))
