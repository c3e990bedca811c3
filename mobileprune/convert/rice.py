"""Sparse tensors in few bits: gaps between nonzeros, and int8 values, in Rice codes (Golomb 1966; Rice, JPL 79-22).

A whole number v >= 0 is cut at ``width`` bits: the quotient v >> width as that many 0 bits and a 1 (``high``), the
remainder in ``width`` bits (``low``). Distances between the nonzeros of a pruned tensor are close to geometric, for
which Rice codes come within 4 % of the entropy (from 2 to 50 % of nonzeros); width 0 is the plain bitmask. All of it
decodes by sums and scatters of whole tensors, without a loop over numbers, so that standard operators of a runtime can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]
Tensor = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
MAX_WIDTH = 8


@dataclass(frozen=True)
class Rice:
    """``count`` numbers; both streams start at the lowest bit of the first byte. ``unary`` False: no quotients."""

    count: int
    width: int
    high: Bytes
    low: Bytes
    unary: bool = True

    @property
    def num_bytes(self) -> int:
        return len(self.high) + len(self.low)


@dataclass(frozen=True)
class Signed:
    """Nonzero int8 values: number 2 m + s stands for (base + direction * m) * (-1)^s."""

    base: int
    direction: int
    numbers: Rice


@dataclass(frozen=True)
class Packed:
    """A tensor: the gaps (zeros before each nonzero, in C order) and the nonzero values in that order."""

    shape: tuple[int, ...]
    gaps: Rice
    values: NDArray[np.float32] | NDArray[np.float16] | Signed

    @property
    def num_bytes(self) -> int:
        return self.gaps.num_bytes + (
            self.values.numbers.num_bytes if isinstance(self.values, Signed) else self.values.nbytes
        )


def encode(numbers: Whole, *, fixed: bool = False) -> Rice:
    """The shortest of all widths; ``fixed`` asks for at least one low bit, and allows to do without quotients."""
    count, widths = len(numbers), range(1 if fixed else 0, MAX_WIDTH + 1)
    costs = {(width, True): int((numbers >> width).sum()) + count * (1 + width) for width in widths}
    widest = int(numbers.max(initial=1)).bit_length()
    if fixed and widest <= MAX_WIDTH:
        costs[widest, False] = widest * count
    width, unary = min(costs, key=lambda key: (costs[key], key))
    high = np.zeros(0, np.uint8)
    if unary:
        ends = np.cumsum(numbers >> width) + np.arange(count)
        bits = np.zeros(int(ends[-1]) + 1 if count else 0, np.uint8)
        bits[ends] = 1
        high = np.packbits(bits, bitorder="little")
    places = (numbers[:, None] >> np.arange(width)) & 1
    return Rice(count, width, high, np.packbits(places.astype(np.uint8), bitorder="little"), unary)


def decode(code: Rice) -> Whole:
    """The numbers of :func:`encode`; ValueError when the streams are not of ``count`` numbers."""
    places = np.unpackbits(code.low, bitorder="little")
    if len(places) < code.count * code.width:
        raise ValueError(f"{len(code.low)} bytes are too few for {code.count} numbers of {code.width} bits")
    low = places[: code.count * code.width].reshape(code.count, code.width) @ (1 << np.arange(code.width))
    if not code.unary:
        return low.astype(np.int64)
    ends = np.flatnonzero(np.unpackbits(code.high, bitorder="little"))
    if len(ends) != code.count:
        raise ValueError(f"the quotients are of {len(ends)} numbers, not {code.count}")
    return (np.diff(ends, prepend=-1) - 1 << code.width) + low


def pack(tensor: Tensor) -> Packed:
    flat: NDArray[Any] = tensor.ravel()
    places = np.flatnonzero(flat)
    values = flat[places]
    gaps = encode(np.diff(places, prepend=-1) - 1)
    return Packed(tensor.shape, gaps, _signed(values) if values.dtype == np.int8 else values)


def unpack(packed: Packed) -> Tensor:
    """The tensor of :func:`pack`, bit for bit (but for -0, which reads 0); ValueError when the parts do not fit."""
    values = _unsigned(packed.values) if isinstance(packed.values, Signed) else packed.values
    places = np.cumsum(decode(packed.gaps) + 1) - 1
    flat = np.zeros(math.prod(packed.shape), values.dtype)
    if len(places) != len(values) or (len(places) and places[-1] >= len(flat)):
        raise ValueError(f"{len(values)} values at {len(places)} places do not fit a tensor of {len(flat)}")
    flat[places] = values
    return flat.reshape(packed.shape)


def _signed(values: NDArray[np.int8]) -> Signed:
    """Counted up from the smallest magnitude, or down from the largest, whichever is shorter."""
    sizes = np.abs(values.astype(np.int64))
    low, high = int(sizes.min(initial=127)), int(sizes.max(initial=1))
    ways = [
        Signed(base, direction, encode(2 * direction * (sizes - base) + (values < 0), fixed=True))
        for base, direction in ((low, 1), (high, -1))
    ]
    return min(ways, key=lambda way: way.numbers.num_bytes)


def _unsigned(code: Signed) -> NDArray[np.int8]:
    numbers = decode(code.numbers)
    return ((code.base + code.direction * (numbers >> 1)) * (1 - 2 * (numbers & 1))).astype(np.int8)
