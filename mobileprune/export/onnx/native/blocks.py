"""Nodes of single layers become one node for a block, whose inner values then stay in the processor's cache.

    SparseConv f (1 x 1)   depthwise Conv, f   SparseConv [Add] (1 x 1)   ->   SparseConvInvertedResidual [Add] f
                           depthwise Conv, f   SparseConv [Add] (1 x 1)   ->   SparseConvSeparable [Add] f

each with the next as its only user, f one of Relu, Relu6, HardSwish. The library computes depthwise layers of 3 x 3 or
5 x 5 with stride 1 or 2 and pads smaller than the kernel. A separable block has stride 1 only: before a stride of 2 its
input, which ONNX Runtime has to lay out anew for the library, is larger than what it would hand over behind it.
"""

from __future__ import annotations

from collections.abc import Collection

from mobileprune.export.onnx.native.layers import Graph, Layer
from mobileprune.export.onnx.native.rewrite import Fused, fuse
from mobileprune.sparse_operators import OPERATORS, operator

KERNELS, STRIDES = (3, 5), (1, 2)
MAX_SCRATCH = 2**26
"""What the library takes of numbers that it keeps of a block, less than is counted here."""
VECTOR = 128
"""More numbers than the library adds to a plane."""


def join(graph: Graph, fused: Collection[Fused], depthwise: Collection[Layer]) -> list[Fused]:
    """``fused`` with blocks in place of their nodes; ``depthwise``: layers of no node of their own, as yet."""
    made = {each.output: each for each in (*fuse(graph, depthwise), *fused)}
    found: list[Fused] = []
    gone: set[str] = set()
    for last in fused:
        middle = _before(graph, made, last)
        if not middle or not _projects(last) or not _inside(middle):
            continue
        first = _before(graph, made, middle)
        if first and (first not in fused or not _expands(first, middle)):
            first = None
        chain = [each for each in (first, middle, last) if each]
        if (first or middle.layer.attributes["strides"] == [1, 1]) and _fits(chain):
            found.append(_block(chain))
            gone.update(each.output for each in chain)
    return [*(each for each in fused if each.output not in gone), *found]


def _before(graph: Graph, made: dict[str, Fused], fused: Fused) -> Fused | None:
    """The node whose output ``fused`` alone takes, as its input."""
    return made.get(fused.input) if graph.only_user(fused.input) is not None else None


def _pointwise(fused: Fused) -> bool:
    given = fused.layer.attributes
    plain = given.get("strides") == [1, 1] and not any(given.get("pads", [1])) and given.get("group") == 1
    return OPERATORS[fused.operator][0] == "SparseConv" and plain and fused.layer.weights.shape[2:] == (1, 1)


def _projects(fused: Fused) -> bool:
    return _pointwise(fused) and not OPERATORS[fused.operator][2]


def _expands(fused: Fused, middle: Fused) -> bool:
    return _pointwise(fused) and OPERATORS[fused.operator] == OPERATORS[middle.operator]


def _inside(fused: Fused) -> bool:
    """Whether it is a depthwise layer as the library takes it."""
    base, add, activation = OPERATORS[fused.operator]
    if base != "SparseConv" or add or not activation:
        return False
    given, (channels, _, *kernel) = fused.layer.attributes, fused.layer.weights.shape
    square = kernel[0] == kernel[1] and given["strides"][0] == given["strides"][1] and given["dilations"] == [1, 1]
    allowed = kernel[0] in KERNELS and given["strides"][0] in STRIDES and max(given["pads"]) < kernel[0]
    return bool(fused.layer.depthwise and channels == given["group"] and square and allowed)


def _fits(chain: list[Fused]) -> bool:
    first, middle, last = chain[0].layer, chain[-2].layer, chain[-1].layer
    (height, width), (top, left, bottom, right) = middle.attributes["input_size"], middle.attributes["pads"]
    plane = (height + top + bottom) * (width + left + right) + VECTOR
    planes = first.weights.shape[1] * first.attributes["group"] + 2 * middle.weights.shape[0]
    return bool(planes * plane + VECTOR * last.weights.shape[0] <= MAX_SCRATCH)


def _block(chain: list[Fused]) -> Fused:
    middle, last = chain[-2:]
    _, add, _ = OPERATORS[last.operator]
    base = "SparseConvInvertedResidual" if len(chain) == 3 else "SparseConvSeparable"
    name = operator(base, add=add, activation=OPERATORS[middle.operator][2])
    layers = tuple(each.layer for each in chain)
    parts = tuple(part for each in chain for part in each.parts)
    return Fused(layers, middle.layer, name, parts, last.residual, last.output)
