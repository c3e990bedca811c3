"""The functions of standard ONNX operators that unpack tensors, as text, and as they stand in a file.

``Unpack<gaps><values>`` makes a tensor of the streams of :mod:`mobileprune.convert.rice`: gaps as a bitmask or in Rice
codes, values as floats, as numbers of one width or in Rice codes. All of it is sums and scatters of whole tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import parser

from mobileprune.sparse_operators import DOMAIN

CODE = ("gaps_width", "gaps_unit", "width", "unit", "count", "base", "direction")
"""What the numbers of the attribute ``code`` mean; a unit is 2^width, the count is that of the nonzeros."""
HELPERS = {
    # bytes (n,) -> bits (8 n,), lowest first
    "Bits": """(bytes) => (bits) {
        shifts = Constant <value = uint8[1, 8] {0, 1, 2, 3, 4, 5, 6, 7}> ()
        one = Constant <value = uint8 {1}> ()
        flat = Constant <value_ints = [-1]> ()
        column = Constant <value_ints = [-1, 1]> ()
        rows = Reshape (bytes, column)
        shifted = BitShift <direction = "RIGHT"> (rows, shifts)
        lowest = BitwiseAnd (shifted, one)
        bits = Reshape (lowest, flat)
    }""",
    # bytes -> count numbers of `width` bits
    "Fields": """(bytes, width, count) => (numbers) {
        bits = mobileprune.Bits (bytes)
        zero = Constant <value_ints = [0]> ()
        flat = Constant <value_ints = [-1]> ()
        column = Constant <value_ints = [-1, 1]> ()
        shape = Concat <axis = 0> (count, width)
        size = Mul (count, width)
        used = Slice (bits, zero, size)
        table = Reshape (used, shape)
        all_powers = Constant <value = uint8[8] {1, 2, 4, 8, 16, 32, 64, 128}> ()
        some_powers = Slice (all_powers, zero, width)
        powers = Reshape (some_powers, column)
        sums = MatMulInteger (table, powers)
        numbers = Reshape (sums, flat)
    }""",
    # Where the `count` quotients end. (NonZero would say so too, but ONNX Runtime does not fold it: the i-th 1 is
    # scattered to i, every 0 to a line of its own that is cut off.)
    "Ends": """(bytes, count) => (ends) {
        bits = mobileprune.Bits (bytes)
        one = Constant <value_ints = [1]> ()
        axis = Constant <value_int = 0> ()
        step = Constant <value = int32 {1}> ()
        zero = Constant <value = int32 {0}> ()
        lines = Add (count, one)
        wide = Cast <to = 6> (bits)
        ordinals = CumSum (wide, axis)
        targets = Mul (ordinals, wide)
        size64 = Size (bits)
        size = Cast <to = 6> (size64)
        places = Range (zero, size, step)
        empty = ConstantOfShape <value = int32[1] {0}> (lines)
        filled = ScatterElements <axis = 0> (empty, targets, places)
        ends = Slice (filled, one, lines)
    }""",
    # place_i = unit end_i + sum_{j <= i} (rest_j + 1 - unit) + unit - 1
    "Places": """(high, low, width, unit, count) => (places) {
        ends = mobileprune.Ends (high, count)
        rest = mobileprune.Fields (low, width, count)
        unit32 = Cast <to = 6> (unit)
        one = Constant <value = int32 {1}> ()
        axis = Constant <value_int = 0> ()
        less = Sub (unit32, one)
        steps = Sub (rest, less)
        sums = CumSum (steps, axis)
        scaled = Mul (ends, unit32)
        moved = Add (scaled, sums)
        places = Add (moved, less)
    }""",
    # number_i = unit (end_i - end_{i - 1} - 1) + rest_i
    "Numbers": """(high, low, width, unit, count) => (numbers) {
        ends = mobileprune.Ends (high, count)
        rest = mobileprune.Fields (low, width, count)
        unit32 = Cast <to = 6> (unit)
        one = Constant <value = int32 {1}> ()
        first = Constant <value = int32[1] {-1}> ()
        zero = Constant <value_ints = [0]> ()
        last = Constant <value_ints = [-1]> ()
        before = Slice (ends, zero, last)
        starts = Concat <axis = 0> (first, before)
        distances = Sub (ends, starts)
        quotients = Sub (distances, one)
        scaled = Mul (quotients, unit32)
        numbers = Add (scaled, rest)
    }""",
    # (base + direction (number >> 1)) (-1)^(number & 1)
    "Signed": """(numbers, base, direction) => (values) {
        base32 = Cast <to = 6> (base)
        direction32 = Cast <to = 6> (direction)
        one = Constant <value = int32 {1}> ()
        two = Constant <value = int32 {2}> ()
        halves = Div (numbers, two)
        moved = Mul (halves, direction32)
        sizes = Add (moved, base32)
        odd = Mod (numbers, two)
        twice = Mul (odd, two)
        signs = Sub (one, twice)
        wide = Mul (sizes, signs)
        values = Cast <to = 3> (wide)
    }""",
}
GAPS = {
    "Mask": ("gaps_high", "places = mobileprune.Ends (gaps_high, count)"),
    "Rice": ("gaps_high, gaps_low", "places = mobileprune.Places (gaps_high, gaps_low, gaps_width, gaps_unit, count)"),
}
VALUES = {
    "Float": ("values", "", "float"),
    "Half": ("values", "", "float16"),
    "Fixed": ("low", "numbers = mobileprune.Fields (low, width, count)", "int8"),
    "Rice": ("high, low", "numbers = mobileprune.Numbers (high, low, width, unit, count)", "int8"),
}
"""How the values are kept: inputs, how numbers come of them, type."""


def body(gaps: str, values: str) -> str:
    """The function ``Unpack<gaps><values>``: of all kinds of gaps with all kinds of values."""
    (gaps_inputs, find_places), (inputs, find_values, kind) = GAPS[gaps], VALUES[values]
    if find_values:
        find_values += "\n        values = mobileprune.Signed (numbers, base, direction)"
    return f"""<code> ({gaps_inputs}, {inputs}, shape) => (tensor) {{
        code = Constant <value_ints: ints = @code> ()
        {", ".join(CODE)} = Split <axis = 0, num_outputs = {len(CODE)}> (code)
        {find_places}
        {find_values}
        size = ReduceProd <keepdims = 1> (shape)
        zeros = ConstantOfShape <value = {kind}[1] {{0}}> (size)
        filled = ScatterElements <axis = 0> (zeros, places, values)
        tensor = Reshape (filled, shape)
    }}"""


def _shortened(function: onnx.FunctionProto) -> onnx.FunctionProto:
    """With one or two letters for what is only used inside: names would take more room than many a layer."""
    own = {*function.input, *function.output}
    inner = (name for node in function.node for name in node.output if name not in own)
    names = {name: np.base_repr(index + 10, 36).lower() for index, name in enumerate(dict.fromkeys(inner))}
    for node in function.node:
        for field in (node.input, node.output):
            new = [names.get(name, name) for name in field]
            del field[:]
            field.extend(new)
    return function


def functions(kinds: Iterable[tuple[str, str]], opset: int) -> list[onnx.FunctionProto]:
    """Those for these ``kinds`` of gaps and values, each after what it uses itself."""
    texts = {"Unpack" + "".join(kind): body(*kind) for kind in sorted(kinds)}
    for name in reversed(HELPERS):  # each uses only those before it
        if any(f"{DOMAIN}.{name} " in text for text in texts.values()):
            texts[name] = HELPERS[name]
    head = f'<domain: "{DOMAIN}", opset_import: ["": {opset}, "{DOMAIN}": 1]>\n'
    return [_shortened(parser.parse_function(f"{head}{name} {text}")) for name, text in reversed(texts.items())]
