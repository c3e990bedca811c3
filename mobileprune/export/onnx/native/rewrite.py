"""Layers of an ONNX graph become operators of the native library, together with what follows them.

    Conv | Gemm  [Add of a tensor of the same shape]  [Relu | Clip(0, 6) | HardSwish]   ->   one node

each with the next as its only user. The node's function, which says the same in standard operators, is put into the
file, so stock ONNX Runtime computes what it did before, bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mobileprune.export.onnx.native.layers import OPERATORS, Graph, Layer, same_shape
from mobileprune.sparse_operators import ALL, ATTRIBUTES, DOMAIN, function, operator

ACTIVATIONS = {"Relu": "Relu", "HardSwish": "HardSwish", "Clip": "Relu6"}


@dataclass(frozen=True)
class Fused:
    """What one node computes: the nodes of the graph ``parts``, the last of which makes ``output``.

    ``layer``: whose attributes it takes, one of ``layers``, of which the first takes ``input``.
    """

    layers: tuple[Layer, ...]
    layer: Layer
    operator: str
    parts: tuple[int, ...]
    residual: str
    output: str

    @property
    def input(self) -> str:
        return str(self.layers[0].node.input[0])


def fuse(graph: Graph, chosen: Collection[Layer]) -> list[Fused]:
    """The nodes for ``chosen``, which have no refusal. Of two layers that are added up, the first takes the sum."""
    taken: set[int] = set()
    found = []
    for layer in sorted(chosen, key=lambda layer: layer.at):
        value, residual, activation, parts = str(layer.node.output[0]), "", "", [layer.at]
        added = _added(graph, value)
        if added and added[0] not in taken:
            at, residual = added
            parts.append(at)
            value = str(graph.nodes[at].output[0])
        follower = graph.only_user(value)
        if follower is not None and (activation := _activation(graph, graph.nodes[follower])):
            parts.append(follower)
            value = str(graph.nodes[follower].output[0])
        taken.update(parts)
        name = operator(OPERATORS[layer.node.op_type], add=bool(residual), activation=activation)
        found.append(Fused((layer,), layer, name, tuple(parts), residual, value))
    return found


def _added(graph: Graph, value: str) -> tuple[int, str] | None:
    """The node that adds a tensor to ``value``, and that tensor."""
    at = graph.only_user(value)
    if at is None or graph.nodes[at].domain or graph.nodes[at].op_type != "Add":
        return None
    (other,) = (name for name in graph.nodes[at].input if name != value)
    known = graph.shapes.get(value, ()), graph.shapes.get(other, ())
    return (at, str(other)) if same_shape(*known) and other not in graph.constants else None


def _activation(graph: Graph, node: onnx.NodeProto) -> str:
    """As in the names of operators; "" for what is none of them."""
    if node.domain or node.op_type not in ACTIVATIONS:
        return ""
    if node.op_type == "Clip":
        bounds = [graph.constants.get(name) for name in node.input[1:]]
        values = [None if bound is None else numpy_helper.to_array(bound) for bound in bounds]
        if [value.item() if value is not None and value.size == 1 else None for value in values] != [0, 6]:
            return ""
    return ACTIVATIONS[node.op_type]


def rewrite(proto: onnx.ModelProto, graph: Graph, fused: Collection[Fused]) -> onnx.ModelProto:
    """``proto``, of which ``graph`` is the graph, with ``fused`` nodes in place of their parts."""
    if not fused:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    opset = next(o.version for o in proto.opset_import if not o.domain)
    zeros: dict[str, onnx.TensorProto] = {}
    # In place of the last part, after all that the node needs: a residual may be made later than the layer's input.
    new = {each.parts[-1]: _node(graph, each, zeros) for each in fused}
    gone = {part for each in fused for part in each.parts}
    nodes = [new.get(at, node) for at, node in enumerate(graph.nodes) if at in new or at not in gone]
    idle = {name for name, users in graph.users.items() if gone.issuperset(users)}
    idle -= {name for node in new.values() for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in idle]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend([*kept, *zeros.values()])
    made.functions.extend(function(name, opset) for name in sorted({each.operator for each in fused}))
    made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return made


def _node(graph: Graph, fused: Fused, zeros: dict[str, onnx.TensorProto]) -> onnx.NodeProto:
    """``zeros``: biases of layers that have none, by name, which may get another."""
    parameters = [name for layer in fused.layers for name in _parameters(graph, layer, zeros)]
    inputs = [fused.input, *parameters, *([fused.residual] if fused.residual else [])]
    attributes = {name: fused.layer.attributes[name] for name in ATTRIBUTES[ALL[fused.operator][0]]}
    return helper.make_node(fused.operator, inputs, [fused.output], domain=DOMAIN, **attributes)


def _parameters(graph: Graph, layer: Layer, zeros: dict[str, onnx.TensorProto]) -> list[str]:
    """Weights and bias."""
    _, weights, *bias = (name for name in layer.node.input if name)
    if not bias:
        name = f"zeros.{len(layer.weights)}"
        while name in graph.users or name in graph.shapes:
            name += "_"
        zeros[name] = numpy_helper.from_array(np.zeros(len(layer.weights), np.float32), name)
        bias = [name]
    return [weights, *bias]
