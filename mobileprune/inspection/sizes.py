"""How many bytes weights are going to take in each form, from their number and the share of zeros alone.

Of n weights with z nonzeros of b bits, at places that look random,

    packed    n h(z / n) + z b bits,   h(p) = -p log2 p - (1 - p) log2(1 - p)
    coo       z (b + places) bits, in ONNX 64 bits a place, in .ort 8, 16 or 32
    sparse    z (b + places) bits and a start for each row, places in a row (LiteRT)

and a layer takes the form only where it gains by it. Scales, biases and the graph come on top.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mobileprune.export import target
from mobileprune.export.target import DENSE
from mobileprune.inspection.case import Case
from mobileprune.inspection.contents import Layer

BITS = {"fp32": 32, "fp16": 16, "int8": 8}


def expected(case: Case) -> dict[str, int]:
    """Form of the target -> bytes of all layers' weights; forms whose size nobody can foretell are left out."""
    bits, layers = BITS[case.precision], case.network.layers
    sizes = {}
    for form in target(case.target).forms:
        estimate = ESTIMATES.get(f"{case.target}:{form}") or ESTIMATES.get(form)
        if estimate:
            sizes[form] = sum(math.ceil(min(layer.total * bits, estimate(layer, bits)) / 8) for layer in layers)
    return sizes


def _packed(layer: Layer, bits: int) -> float:
    n, z = layer.total, layer.total - layer.zeros
    return sum(-c * math.log2(c / n) for c in (z, n - z) if c) + z * bits


def _coo(layer: Layer, bits: int) -> float:
    return (layer.total - layer.zeros) * (bits + 64)


def _ort_coo(layer: Layer, bits: int) -> float:
    return (layer.total - layer.zeros) * (bits + _width(layer.total))


def _rows(layer: Layer, bits: int) -> float:
    """LiteRT has input channels last, but for depthwise convolutions, whose layers have one."""
    length = layer.shape[1] if len(layer.shape) > 1 and layer.shape[1] > 1 else layer.shape[0]
    nonzeros = layer.total - layer.zeros
    return nonzeros * (bits + _width(length)) + layer.total // length * _width(nonzeros)


def _width(most: int) -> int:
    return 8 if most <= 2**8 else 16 if most <= 2**16 else 32


ESTIMATES: dict[str, Callable[[Layer, int], float]] = {
    DENSE: lambda layer, bits: layer.total * bits,
    "packed": _packed,
    "coo": _coo,
    "ort:coo": _ort_coo,
    "litert:sparse": _rows,
}
"""``form`` or ``target:form`` -> bits of one layer's weight."""
