"""The C interface of the kernels for tests, guards around each buffer, and a layer by its definition in float64."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pair = tuple[int, int]
ACTIVATIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (lambda y: y, F.relu, F.relu6, F.hardswish)
ALIGNMENT = GUARD = 64
PATTERN = 0xA5


class LayerStruct(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("in_channels", "out_channels", "groups")),
        *((name, c_int64 * 2) for name in ("in_size", "kernel", "stride", "dilation")),
        ("pad", c_int64 * 4),
        ("activation", c_int),
    ]


Task = CFUNCTYPE(None, c_void_p, c_size_t)
Run = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_size_t)


class Threads(ctypes.Structure):
    _fields_ = [("run", Run), ("pool", c_void_p)]


def pool(order: Callable[[Callable[[int], None], int], object]) -> Threads:
    """``order(task, count)`` calls ``task(i)`` for each i below ``count``, in its own way."""

    def run(_: int, task: int, argument: int, count: int) -> None:
        order(lambda index: Task(task)(argument, index), count)

    return Threads(Run(run), None)


def shuffled(task: Callable[[int], None], count: int) -> None:
    for index in random.Random(count).sample(range(count), count):
        task(index)


def at_once(task: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(task, range(count)))


@dataclass(frozen=True)
class Layer:
    in_channels: int = 1
    out_channels: int = 1
    groups: int = 1
    in_size: Pair = (1, 1)
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: int = 0

    @property
    def struct(self) -> LayerStruct:
        return LayerStruct(*astuple(self))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.in_channels, *self.in_size)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        nothing = np.zeros(self.weight_shape, np.float32)
        return convolved(self, np.zeros((1, *self.input_shape), np.float32), nothing).shape[1:]


def convolved(layer: Layer, x: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """The sums over weights alone, by PyTorch in float64."""
    top, left, bottom, right = layer.pad
    padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
    weight = torch.from_numpy(weights).double()
    made: NDArray[np.float64] = F.conv2d(
        padded, weight, stride=layer.stride, dilation=layer.dilation, groups=layer.groups
    ).numpy()
    return made


def reference(
    layer: Layer, x: Floats, weights: Floats, bias: Floats, residual: Floats | None = None
) -> NDArray[np.float64]:
    sums = convolved(layer, x, weights) + bias[:, None, None].astype(np.float64)
    y = torch.from_numpy(sums if residual is None else sums + residual)
    made: NDArray[np.float64] = ACTIVATIONS[layer.activation](y).numpy()
    return made


class Guarded:
    """``size`` bytes between guards, ``skew`` bytes behind a multiple of 64; full of NaN as floats."""

    def __init__(self, size: int, skew: int = 0) -> None:
        self.whole = np.full(size + 2 * GUARD + ALIGNMENT + skew, 0xFF, np.uint8)
        self.start = GUARD + (-(self.whole.ctypes.data + GUARD)) % ALIGNMENT + skew
        self.end = self.start + size
        self.whole[: self.start] = self.whole[self.end :] = PATTERN
        self.address = self.whole.ctypes.data + self.start

    def floats(self, shape: tuple[int, ...]) -> Floats:
        return self.whole[self.start : self.end].view(np.float32).reshape(shape)

    @property
    def intact(self) -> bool:
        return bool((self.whole[: self.start] == PATTERN).all() and (self.whole[self.end :] == PATTERN).all())


def guarded(values: Floats) -> Guarded:
    """A copy that is aligned to 4 bytes only."""
    made = Guarded(values.nbytes, skew=4)
    made.floats(values.shape)[...] = values
    return made


class Kernels:
    """The library at ``path``."""

    def __init__(self, path: Path) -> None:
        self.c = c = ctypes.CDLL(str(path))
        layer = POINTER(LayerStruct)
        c.mp_check.restype, c.mp_check.argtypes = c_char_p, [layer]
        c.mp_out_size.restype, c.mp_out_size.argtypes = None, [layer, POINTER(c_int64)]
        c.mp_kernel_name.restype, c.mp_kernel_name.argtypes = c_char_p, [c_int]
        c.mp_kernel_runs.argtypes = [c_int]
        c.mp_choose.argtypes = [layer, c_void_p]
        c.mp_packed_bytes.restype, c.mp_packed_bytes.argtypes = c_size_t, [layer, c_void_p, c_int]
        c.mp_pack.restype, c.mp_pack.argtypes = c_void_p, [layer, c_void_p, c_void_p, c_int, c_void_p]
        c.mp_scratch_bytes.restype, c.mp_scratch_bytes.argtypes = c_size_t, [c_void_p, c_int64]
        pointers = [c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, POINTER(Threads)]
        c.mp_run.restype, c.mp_run.argtypes = None, pointers
        c.mp_multiply_adds.restype, c.mp_multiply_adds.argtypes = c_int64, [c_void_p]

    def name(self, kernel: int) -> str | None:
        found: bytes | None = self.c.mp_kernel_name(kernel)
        return None if found is None else found.decode()

    @cached_property
    def runnable(self) -> dict[str, int]:
        """Kernels that this CPU runs."""
        names = {}
        while name := self.name(len(names)):
            names[name] = len(names)
        return {name: kernel for name, kernel in names.items() if self.c.mp_kernel_runs(kernel)}

    def of(self, layer: Layer) -> dict[str, int]:
        """Those that can run ``layer``: quads are four output channels of one group."""
        divides = layer.out_channels // layer.groups % 4 == 0
        return {name: kernel for name, kernel in self.runnable.items() if divides or not name.endswith("quads")}

    def check(self, layer: Layer) -> str:
        """What is wrong with ``layer``; empty where nothing is."""
        found: bytes | None = self.c.mp_check(byref(layer.struct))
        return (found or b"").decode()

    def choose(self, layer: Layer, weights: Floats) -> str | None:
        return self.name(self.c.mp_choose(byref(layer.struct), np.ascontiguousarray(weights).ctypes.data))

    def packed_bytes(self, layer: Layer, weights: Floats, kernel: int) -> int:
        return int(self.c.mp_packed_bytes(byref(layer.struct), np.ascontiguousarray(weights).ctypes.data, kernel))


class Packed:
    """A packed layer. Packing and each run assert that nothing is written beyond what the library asks for."""

    def __init__(self, kernels: Kernels, layer: Layer, weights: Floats, bias: Floats | None, kernel: int) -> None:
        assert kernels.check(layer) == ""
        self.c, self.layer = kernels.c, layer
        self.memory = Guarded(kernels.packed_bytes(layer, weights, kernel))
        sources = [None if part is None else guarded(part) for part in (weights, bias)]
        addresses = [part and part.address for part in sources]
        self.handle = self.c.mp_pack(byref(layer.struct), *addresses, kernel, self.memory.address)
        assert self.handle
        assert self.memory.intact
        for part in sources:  # what was packed must not depend on the caller's memory any more
            if part:
                part.whole[...] = 0xFF

    @property
    def multiply_adds(self) -> int:
        return int(self.c.mp_multiply_adds(self.handle))

    def run(self, x: Floats, residual: Floats | None = None, threads: Threads | None = None) -> Floats:
        """(N, C, H, W) -> (N, M, H', W')"""
        shape = (len(x), *self.layer.output_shape)
        images, added = guarded(x), None if residual is None else guarded(residual)
        y = Guarded(4 * int(np.prod(shape)), skew=4)
        scratch = Guarded(self.c.mp_scratch_bytes(self.handle, len(x)))
        pointers = (images.address, added and added.address, y.address)
        self.c.mp_run(self.handle, *pointers, len(x), scratch.address, threads and byref(threads))
        assert all(buffer.intact for buffer in (images, y, scratch, self.memory))
        return y.floats(shape)
