"""An ONNX file as a list of nodes that torch can differentiate, with every constant unfolded to a dense tensor.

Functions are written out. What no image changes (sparse, packed, halved and quantised weights) is computed by ONNX
Runtime, as in every session; the nodes that are left pass images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from onnx.inliner import inline_local_functions
from torch import Tensor

from mobileprune.errors import ArtifactError, one_line
from mobileprune.runtimes.gradients.node import Node
from mobileprune.runtimes.gradients.operators import OPERATORS, WEIGHTED
from mobileprune.runtimes.onnx_checks import read
from mobileprune.runtimes.onnx_constants import ask, constant_names, only

AFTER_LOGITS = ("Add", "Sub", "Mul", "Div", "Identity", "Cast", "QuantizeLinear", "DequantizeLinear")
"""With constants, these are part of the layer before them."""


@dataclass(frozen=True, eq=False)
class Use:
    """A layer's ``x`` (N, ...), its product ``y`` with the weight called ``weight``, and the node."""

    node: Node
    x: Tensor
    y: Tensor

    @property
    def weight(self) -> str:
        return self.node.inputs[1]


@dataclass(frozen=True, eq=False)
class Graph:
    """``nodes`` in order, from ``input`` to ``output``; ``constants`` by name; ``weights``: those of the layers."""

    path: Path
    input: str
    output: str
    nodes: tuple[Node, ...]
    constants: dict[str, Tensor]
    weights: tuple[str, ...] = field(default=())

    def run(self, x: Tensor) -> tuple[Tensor, list[Use], int]:
        """Input (N, C, H, W) -> output, the layers in order, and how many numbers all values together have.

        ArtifactError for what cannot be computed, and for a layer whose first axis is not the example.
        """
        values: dict[str, Tensor] = {self.input: x}
        uses: list[Use] = []
        for node in self.nodes:
            try:
                inputs = [values.get(name, self.constants.get(name)) for name in node.inputs]
                outputs = OPERATORS[node.kind](node, inputs)
            except Exception as error:  # what torch raises has no common base
                raise ArtifactError(f"{self.path}: {node.kind} cannot be differentiated ({one_line(error)})") from error
            values.update(zip(node.outputs, outputs, strict=False))
            if node.kind in WEIGHTED and node.inputs[1] in self.constants:
                layer = inputs[0]
                if layer is None or len(layer) != len(x):
                    raise ArtifactError(f"{self.path}: a {node.kind} mixes examples: its first axis is not the example")
                uses.append(Use(node, layer, outputs[0]))
        if self.output not in values:
            raise ArtifactError(f"{self.path}: no image reaches its output {self.output!r}")
        return values[self.output], uses, sum(value.numel() for value in values.values())


def read_graph(content: bytes, path: Path, input_name: str, input_shape: tuple[int, int, int], classes: int) -> Graph:
    """Up to the logits: what follows the last layer (softmax, hardening) is cut off, as whoever has the file can do.

    ArtifactError for files that :mod:`mobileprune.runtimes.onnx_checks` refuses, for operators that are not known,
    and for layers that mix examples.
    """
    model = inline_local_functions(read(content, path))
    stored = {t.name for t in model.graph.initializer} | {s.values.name for s in model.graph.sparse_initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    if names != [input_name]:
        raise ArtifactError(f"{path}: inputs are {names}, its manifest says [{input_name!r}]")
    constants = constant_names(model, stored)
    passing = [node for node in model.graph.node if not constants.issuperset(node.output)]
    wanted = {name for node in passing for name in node.input if name in constants and name}
    try:
        values, _ = ask(only(model, constants), wanted, set(), {})
        tensors = {name: torch.tensor(value) for name, value in values.items()}
        nodes = [Node.of(node) for node in passing]
    except Exception as error:  # what ONNX Runtime raises has no common base
        raise ArtifactError(f"{path}: its constants cannot be computed ({one_line(error)})") from error
    whole = model.graph.output[0].name if model.graph.output else ""
    failed: ArtifactError | None = None
    for output in dict.fromkeys((_logits(nodes, tensors, whole), whole)):
        graph = _part(path, input_name, output, nodes, tensors)
        try:
            for count in (1, 2):  # two sizes: an axis that is as long as one batch by chance is not as long as both
                with torch.no_grad():
                    logits, _, _ = graph.run(torch.zeros(count, *input_shape))
                if tuple(logits.shape) != (count, classes):
                    raise ArtifactError(f"{path}: outputs are {tuple(logits.shape)}, not {(count, classes)}")
            return graph
        except ArtifactError as error:
            failed = error
    assert failed is not None
    raise failed


def _logits(nodes: list[Node], constants: dict[str, Tensor], output: str) -> str:
    """What the last layer makes of images, its bias and scale included; ``output`` if that layer is a convolution."""
    layers = [node for node in nodes if node.kind in WEIGHTED and node.inputs[1] in constants]
    if not layers or layers[-1].kind == "Conv":
        return output
    value = layers[-1].outputs[0]
    while value != output:
        users = [node for node in nodes if value in node.inputs]
        if len(users) != 1 or users[0].kind not in AFTER_LOGITS:
            break
        if any(name not in constants for name in users[0].inputs if name and name != value):
            break
        value = users[0].outputs[0]
    return value


def _part(path: Path, start: str, output: str, nodes: list[Node], constants: dict[str, Tensor]) -> Graph:
    """The graph of all that ``output`` needs."""
    needed, kept = {output}, list[Node]()
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    kept.reverse()
    unknown = sorted({node.kind for node in kept if node.kind not in OPERATORS})
    if unknown:
        raise ArtifactError(f"{path}: no gradients through {', '.join(unknown)}; known: {', '.join(OPERATORS)}")
    layers = [node for node in kept if node.kind in WEIGHTED and node.inputs[1] in constants]
    for node in layers:
        axes, expected = constants[node.inputs[1]].ndim, 4 if node.kind == "Conv" else 2
        if axes != expected:
            raise ArtifactError(f"{path}: the weight of a {node.kind} has {axes} axes; gradients need {expected}")
    if not layers:
        raise ArtifactError(f"{path}: has no layer with weights (Conv, Gemm, MatMul), so no gradients")
    return Graph(path, start, output, tuple(kept), constants, tuple({node.inputs[1]: None for node in layers}))
