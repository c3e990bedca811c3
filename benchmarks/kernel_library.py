"""What the native library makes of a node: the kernels that it chooses, and how much these multiply and add.

Asked of the library itself, through the C interface in export/kernels/mobileprune_kernels.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_int, c_int64, c_void_p
from typing import Any

import numpy as np
import onnx
from kernel_sessions import native_library
from numpy.typing import NDArray
from onnx import helper

from mobileprune.sparse_operators import OPERATORS

Weights = NDArray[np.float32]
ALIGNMENT = 64
PLAIN = {"group": 1, "input_size": [1, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4}
"""Of a matrix product."""


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("in_channels", "out_channels", "groups")),
        *((name, c_int64 * 2) for name in ("in_size", "kernel", "stride", "dilation")),
        ("pad", c_int64 * 4),
        ("activation", c_int),
    )


class _Block(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("in_channels", "channels", "out_channels")),
        ("in_size", c_int64 * 2),
        *((name, c_int64) for name in ("kernel", "stride")),
        ("pad", c_int64 * 4),
        ("expands", c_int),
        ("activation", c_int),
    )


class _BlockWeights(ctypes.Structure):
    _fields_ = (("weights", c_void_p * 3), ("bias", c_void_p * 3))


def work(node: onnx.NodeProto, weights: Sequence[Weights]) -> tuple[str, int]:
    """The kernels that compute a node with these ``weights``, and the multiply-adds of one image, stored zeros too."""
    given = {**PLAIN, **{a.name: helper.get_attribute_value(a) for a in node.attribute}}
    arrays = [np.ascontiguousarray(each, np.float32) for each in weights]
    return (_layer if node.op_type in OPERATORS else _block)(ctypes.CDLL(str(native_library())), given, arrays)


def _layer(ops: Any, given: dict[str, Any], weights: list[Weights]) -> tuple[str, int]:
    (one,) = weights
    layer = _Layer(one.shape[1] * given["group"], one.shape[0], given["group"])
    sizes = {"in_size": "input_size", "stride": "strides", "dilation": "dilations"}
    for field, attribute in sizes.items():
        setattr(layer, field, (c_int64 * 2)(*given[attribute]))
    layer.kernel, layer.pad = (c_int64 * 2)(*(one.shape[2:] or (1, 1))), (c_int64 * 4)(*given["pads"])
    at, source = byref(layer), c_void_p(one.ctypes.data)
    kernel = ops.mp_choose(at, source)
    memory = _memory(ops.mp_packed_bytes, at, source, kernel)
    packed = _pointer(ops.mp_pack)(at, source, None, kernel, _aligned(memory))
    return _name(ops, kernel), _count(ops.mp_multiply_adds)(c_void_p(packed))


def _block(ops: Any, given: dict[str, Any], weights: list[Weights]) -> tuple[str, int]:
    *expand, depthwise, project = weights
    channels = len(depthwise)
    entering = expand[0].shape[1] if expand else channels
    block = _Block(entering, channels, len(project), kernel=depthwise.shape[2], stride=given["strides"][0])
    block.in_size, block.pad = (c_int64 * 2)(*given["input_size"]), (c_int64 * 4)(*given["pads"])
    block.expands = len(expand)
    sources = [None] * (3 - len(weights)) + [each.ctypes.data for each in weights]
    zeros = np.zeros(max(channels, len(project)), np.float32)
    numbers = _BlockWeights((c_void_p * 3)(*sources), (c_void_p * 3)(*[zeros.ctypes.data] * 3))
    kernels = (c_int * 2)()
    at, source = byref(block), byref(numbers)
    ops.mp_block_choose(at, source, kernels)
    memory = _memory(ops.mp_block_packed_bytes, at, source, kernels)
    packed = _pointer(ops.mp_block_pack)(at, source, kernels, _aligned(memory))
    names = [_name(ops, kernel) for kernel in kernels[0 if expand else 1 :]]
    return ", ".join(dict.fromkeys(names)), _count(ops.mp_block_multiply_adds)(c_void_p(packed))


def _memory(packed_bytes: Any, *arguments: Any) -> NDArray[np.uint8]:
    packed_bytes.restype = ctypes.c_size_t
    return np.empty(packed_bytes(*arguments) + ALIGNMENT, np.uint8)


def _aligned(memory: NDArray[np.uint8]) -> c_void_p:
    return c_void_p(memory.ctypes.data + -memory.ctypes.data % ALIGNMENT)


def _pointer(function: Any) -> Any:
    function.restype = c_void_p
    return function


def _count(function: Any) -> Any:
    function.restype = c_int64
    return function


def _name(ops: Any, kernel: int) -> str:
    ops.mp_kernel_name.restype = ctypes.c_char_p
    return str(ops.mp_kernel_name(kernel).decode())
