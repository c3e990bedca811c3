"""Which layers the native library computes: by a rule, or by what is faster on this machine.

The rule (benchmarks/kernel_rule.py) asks for the graph alone, so the same model gives the same bytes on every machine,
with the library or without. What is measured depends on the machine: for files made for machines like this one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from mobileprune.export.onnx.native.blocks import join
from mobileprune.export.onnx.native.layers import Graph, Layer
from mobileprune.export.onnx.native.measure import Measure, alone
from mobileprune.export.onnx.native.rewrite import fuse, rewrite
from mobileprune.export.target import MEASURED, measuring_library

NATIVE, DENSE = "native", "dense (ONNX Runtime)"
MIN_ZEROS = 0.65
"""Share of zeros below which dense kernels are as fast, where the pixels of a layer's output fill whole vectors."""
LANES = 8
"""Pixels of a vector, between those of phones (4) and of AVX-512 (16): one rule for all keeps the bytes the same."""
ALWAYS = 0.89
"""Share of zeros from which maps may be as small as they like: phones gain from it (benchmarks/results/devices.md), and
wide vectors lose on the smallest images only. A little below 90 %, because a share that is asked for is rounded."""
LARGE = ((2**22, 0.89), (2**18, 0.94))
"""Weights of a linear layer, and the share of zeros from which they pay for one image: fewer weights stay in the cache,
where a dense kernel multiplies 16 of them in the time that finding one nonzero takes."""
MIN_RATIO = 1.05
"""Of a layer's times: less may be noise, or be lost where one kernel hands over to the other."""
RULE = (
    f"by rule: convolutions with at least {MIN_ZEROS:.0%} zeros, more where maps are small; large linear layers with "
    "more; of depthwise layers those in a block with such layers"
)
INSIDE = "depthwise, in a block with sparse layers: what lies between them stays in the processor's cache"


@dataclass(frozen=True)
class Choice:
    """``name``, ``shape`` and share of ``zeros`` of a layer's weights, the ``operator`` that computes it, its
    ``kernel`` and ``why``; ``ratio``: time with ONNX Runtime's kernels over that with the library's, if measured."""

    name: str
    shape: list[int]
    zeros: float
    operator: str
    kernel: str
    ratio: float | None
    why: str


@dataclass(frozen=True)
class Kernels:
    """``by``: native (the rule) or measured; ``ratio``: of the whole model, as of a layer."""

    by: str
    why: str
    ratio: float | None
    layers: tuple[Choice, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a manifest has it."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def least_zeros(weights: int, pixels: int | None) -> float:
    """Share of a layer's weights that must be skipped for the library to compute it; 1: never.

    A weight that is not zero costs it ceil(P / 8) vectors for an output of P ``pixels``; dense kernels fill theirs
    with channels. So at most 1 - MIN_ZEROS of the weights, times the share of lanes in use, may not be zero; but 1 -
    ALWAYS may be anywhere.
    ``pixels`` None: a linear layer.

    >>> [round(least_zeros(9216, pixels), 3) for pixels in (1, 4, 9, 49, 64)]
    [0.89, 0.825, 0.803, 0.694, 0.65]
    >>> [least_zeros(weights, None) for weights in (48_000, 2**20, 2**24)]
    [1.0, 0.94, 0.89]
    """
    if pixels is None:
        return next((zeros for size, zeros in LARGE if weights >= size), 1.0)
    return min(ALWAYS, 1 - (1 - MIN_ZEROS) * pixels / (math.ceil(pixels / LANES) * LANES))


def is_worth_it(layer: Layer) -> bool:
    """By the rule; depthwise layers are left to dense kernels."""
    return not layer.refusal and not layer.depthwise and layer.skipped >= least_zeros(layer.weights.size, layer.pixels)


def choose(proto: onnx.ModelProto, by: str) -> tuple[onnx.ModelProto, Kernels]:
    """``proto`` (float32, dense) with the layers that are chosen rewritten, and what was chosen for every layer.

    TargetUnavailableError for ``by`` "measured" without the library.
    """
    graph = Graph(proto)
    layers, measure = graph.layers(), Measure(measuring_library()) if by == MEASURED else None
    able = [layer for layer in layers if not layer.refusal]
    ratios = {layer: measure.ratio(*alone(proto, graph, layer)) for layer in able} if measure else {}
    verdicts = {layer: _verdict(layer, ratios.get(layer)) for layer in layers}
    fused = fuse(graph, [layer for layer in able if verdicts[layer][0]])
    fused = join(graph, fused, [layer for layer in able if layer.depthwise and not verdicts[layer][0]])
    made, why, whole = rewrite(proto, graph, fused), RULE, None
    if measure:
        why = f"layers that were measured to be {MIN_RATIO:g}x as fast"
    if measure and fused:
        whole = measure.ratio(proto, made)
        if whole <= 1:
            made, fused = proto, []
            why += f"; none, because with them the whole model is no faster ({whole:.2f}x)"
    operators = {layer: each.operator for each in fused for layer in each.layers}
    choices = (
        Choice(
            layer.name,
            [*layer.weights.shape],
            round(layer.zeros, 4),
            operators.get(layer, layer.node.op_type),
            NATIVE if layer in operators else DENSE,
            ratios.get(layer),
            reason if chosen or layer not in operators else INSIDE,
        )
        for layer, (chosen, reason) in verdicts.items()
    )
    return made, Kernels(by, why, whole, tuple(choices))


def _verdict(layer: Layer, ratio: float | None) -> tuple[bool, str]:
    """Whether the library is to compute the layer, and why."""
    zeros = f"{layer.zeros:.1%} zeros"
    if layer.refusal:
        return False, layer.refusal
    if ratio is not None:
        return ratio >= MIN_RATIO, f"{zeros}: {ratio:.2f}x as fast"
    if layer.depthwise:
        return False, f"depthwise, {zeros}: dense kernels are faster"
    if layer.skipped > layer.zeros:
        zeros += f", {layer.skipped:.1%} skipped with what meets only padding"
    if is_worth_it(layer):
        return True, zeros
    least, of = least_zeros(layer.weights.size, layer.pixels), f"{layer.pixels} pixels" if layer.pixels else "one image"
    return False, f"{zeros}: dense kernels are faster" + f" for {of} below {least:.1%}" * (least < 1)
