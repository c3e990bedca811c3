"""Packed tensors in plain ONNX, which stock ONNX Runtime unpacks when it loads the file.

The bytes of :mod:`mobileprune.convert.rice` are initializers; one call of a function of the domain ``mobileprune``,
whose body is in the same file, makes the tensor of them. Runtimes inline the functions and fold constants, so inference
sees a dense weight. (With graph optimisation switched off it is decoded in every run: slow, and as right.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mobileprune.convert.rice import Packed, Signed
from mobileprune.export.onnx.functions import functions
from mobileprune.sparse_operators import DOMAIN


class Unpacker:
    """Collects what one graph needs to make its packed tensors: initializers, one call a tensor, functions."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.initializers: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self._kinds: set[tuple[str, str]] = set()
        self._shapes: dict[tuple[int, ...], str] = {}

    def add(self, name: str, packed: Packed) -> None:
        """Make ``name`` the tensor of ``packed``."""
        gaps, values, shape = packed.gaps, packed.values, self._shape(packed.shape)
        kind = np.dtype(np.int8) if isinstance(values, Signed) else values.dtype
        if not gaps.count:
            zero = numpy_helper.from_array(np.zeros(1, kind))
            self.nodes.append(helper.make_node("ConstantOfShape", [shape], [name], value=zero))
            return
        streams: list[NDArray[Any]] = [gaps.high, gaps.low] if gaps.width else [gaps.high]
        width = base = direction = 0
        if isinstance(values, Signed):
            numbers, base, direction, width = values.numbers, values.base, values.direction, values.numbers.width
            streams += [numbers.high, numbers.low] if numbers.unary else [numbers.low]
            how = "Rice" if numbers.unary else "Fixed"
        else:
            streams.append(values)
            how = "Half" if kind == np.float16 else "Float"
        chosen = "Rice" if gaps.width else "Mask", how
        self._kinds.add(chosen)
        inputs = [self._constant(f"{len(self.nodes)}{letter}", s) for letter, s in zip("abcd", streams, strict=False)]
        code = [gaps.width, 1 << gaps.width, width, 1 << width, gaps.count, base, direction]
        call = helper.make_node("Unpack" + "".join(chosen), [*inputs, shape], [name], domain=DOMAIN, code=code)
        self.nodes.append(call)

    def functions(self) -> list[onnx.FunctionProto]:
        """Those that the calls use."""
        return functions(self._kinds, self.opset)

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def _shape(self, shape: tuple[int, ...]) -> str:
        if shape not in self._shapes:
            self._shapes[shape] = self._constant("x".join(map(str, shape)), np.array(shape, np.int64))
        return self._shapes[shape]
