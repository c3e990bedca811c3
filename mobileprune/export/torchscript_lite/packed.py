"""Tensors in few bytes for TorchScript: what :func:`~.unpack.expand` makes dense again.

A tensor is Rice-coded (:mod:`mobileprune.convert.rice`) where that is shorter. All codes lie in one record of the file,
and all values of a type in another: each tensor as a record of its own would take some 200 bytes more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobileprune.convert.rice import Packed, Rice, Signed, pack, unpack
from mobileprune.errors import MobilepruneError

NONE = Rice(0, 0, np.zeros(0, np.uint8), np.zeros(0, np.uint8))
Array = NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """Tensors as :func:`mobileprune.export.torchscript_lite.unpack.expand` takes them, in order.

    ``packed``: the codes, uint8, and the values, float16 ones first. For each tensor ``sizes`` has the bytes of four
    streams (high and low of the gaps, and of the values), ``counts`` the values that it takes, and ``layouts`` the
    number of nonzeros (-1: it is not coded), both widths, base and direction (0: values are not coded), and its shape.
    """

    packed: list[Tensor]
    sizes: list[int]
    counts: list[int]
    layouts: list[list[int]]

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for part in self.packed)


def stored(tensors: list[Array], *, sparse: bool) -> Stored:
    """``tensors`` of float16, float32 and int8, none of float16 after one of float32; int8 is always coded."""
    codes, sizes, counts, layouts = list[Array](), list[int](), list[int](), list[list[int]]()
    values: dict[Any, list[Array]] = {np.float16: [], np.float32: []}
    for tensor in tensors:
        code = _coded(tensor) if sparse or tensor.dtype == np.int8 else None
        gaps, numbers, signed = NONE, NONE, Signed(0, 0, NONE)
        part: Array = np.zeros(0, np.float32)
        if code is None:
            part = tensor.ravel()
        elif isinstance(code.values, Signed):
            gaps, signed, numbers = code.gaps, code.values, code.values.numbers
        else:
            gaps, part = code.gaps, code.values
        streams = [gaps.high, gaps.low, numbers.high, numbers.low]
        codes += streams
        sizes += [len(stream) for stream in streams]
        counts.append(len(part))
        values[part.dtype.type].append(part)
        count = -1 if code is None else gaps.count
        layouts.append([count, gaps.width, numbers.width, signed.base, signed.direction, *tensor.shape])
    packed = [np.concatenate([np.zeros(0, np.uint8), *codes])]
    packed += [np.concatenate(parts) for parts in values.values() if parts]
    return Stored([torch.from_numpy(part) for part in packed], sizes, counts, layouts)


def _coded(tensor: Array) -> Packed | None:
    """None where a code is not shorter than the numbers themselves."""
    code = pack(tensor)
    if tensor.dtype != np.int8 and code.num_bytes >= tensor.nbytes:
        return None
    if unpack(code).tobytes() != tensor.tobytes():
        raise MobilepruneError("a tensor does not survive packing; use --sparse-format dense and report this")
    return code
