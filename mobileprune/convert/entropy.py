"""How small weights can get: the entropy of where the nonzeros are and of what they are.

For a tensor of n weights with z nonzeros, of which symbol s occurs c_s times,

    bits = n h(z / n) + sum_s c_s log2(z / c_s) + z m,   h(p) = -p log2 p - (1 - p) log2(1 - p)

A symbol is the value for int8 (m = 0), and for floating point the exponent; sign and mantissa, which look random, count
in full (m = 11 for float16, 24 for float32). No code that treats weights one by one, each tensor on its own, is shorter
on average (Shannon 1948). The counts are the tensor's own, which a decoder would have to be told: the true bound lies a
little higher.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def bound_bits(tensor: NDArray[Any]) -> float:
    """Of one tensor, int8, float16 or float32."""
    n, values = tensor.size, tensor[tensor != 0]
    z = values.size
    bits = sum(-c * math.log2(c / n) for c in (z, n - z) if c)
    symbols = values
    if values.dtype.kind == "f":
        mantissa = 1 + np.finfo(values.dtype).nmant
        symbols, bits = np.frexp(values)[1], bits + mantissa * z
    counts = np.unique(symbols, return_counts=True)[1]
    return float(bits + (counts * np.log2(z / counts)).sum())
