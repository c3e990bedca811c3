"""A frozen TorchScript graph with its weights taken out, and a module around it that expands them when first run.

Weights are tensors of float32 with at least one dimension, biases among them, and with int8 the parameters of quantised
layers. The operators stay as they are, so that answers do too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mobileprune.convert.half import halved
from mobileprune.errors import MobilepruneError
from mobileprune.export.torchscript_lite.packed import Array, Stored, stored
from mobileprune.export.torchscript_lite.unpack import Expanding, Prepacking

CONVS = ("quantized::conv2d", "quantized::conv2d_relu")
LINEARS = ("quantized::linear", "quantized::linear_relu")


def expanding(frozen: torch.jit.ScriptModule, *, half: bool, sparse: bool) -> tuple[torch.jit.ScriptModule, Stored]:
    """``frozen`` with its weights :func:`~.packed.stored`, as float16 if ``half``."""
    graph = _own(frozen)
    found = [(node, halved(_array(node)) if half else _array(node)) for node in weights(graph)]
    found.sort(key=lambda pair: pair[1].dtype.itemsize)
    made = stored([values for _, values in found], sparse=sparse)
    _lift(graph, "weights", [node for node, _ in found], torch.TensorType.get())
    return _scripted(Expanding(_function(graph), made)), made


def prepacking(frozen: torch.jit.ScriptModule) -> tuple[torch.jit.ScriptModule, Stored]:
    """``frozen``, an int8 network, with all its weights coded."""
    graph, ops = _own(frozen), torch.ops.quantized
    floats, convs, linears = weights(graph), layers(graph, CONVS), layers(graph, LINEARS)
    arrays, geometry = list[Array](), list[list[int]]()
    for conv in (node.output().toIValue() for node in convs):
        arrays += layer_arrays(*ops.conv2d_unpack(conv))
        pairs = ops.conv2d_stride(conv), ops.conv2d_padding(conv), ops.conv2d_dilation(conv)
        geometry.append([*(n for pair in pairs for n in pair), ops.conv2d_groups(conv)])
    for linear in (node.output().toIValue() for node in linears):
        arrays += layer_arrays(*ops.linear_unpack(linear))
    made = stored([*arrays, *map(_array, floats)], sparse=True)
    _lift(graph, "weights", floats, torch.TensorType.get())
    _lift(graph, "convs", convs, _argument(ops.conv2d_unpack))
    _lift(graph, "linears", linears, _argument(ops.linear_unpack))
    return _scripted(Prepacking(_function(graph), made, geometry, len(linears))), made


def weights(graph: torch.Graph) -> list[torch.Node]:
    """The constants of float32 with a dimension."""
    nodes = (node for node in _constants(graph) if node.hasAttribute("value") and node.kindOf("value") == "t")
    tensors = ((node, node.t("value")) for node in nodes)
    return [node for node, t in tensors if t.dtype == torch.float32 and t.dim() and t.layout == torch.strided]


def layers(graph: torch.Graph, operators: Sequence[str]) -> list[torch.Node]:
    """The constants that only ``operators`` use, and as their second argument, the parameters."""
    uses = ((node, node.output().uses()) for node in _constants(graph))
    return [n for n, used in uses if used and all(u.user.kind() in operators and u.offset == 1 for u in used)]


def _constants(graph: torch.Graph) -> list[torch.Node]:
    return graph.findAllNodes("prim::Constant")  # type: ignore[attr-defined, no-any-return]


def layer_arrays(weight: Tensor, bias: Tensor | None) -> list[Array]:
    """Of a quantised layer: weight int8, scales and bias float32."""
    scales = weight.q_per_channel_scales()
    bias = torch.zeros(len(scales)) if bias is None else bias.detach() + 0.0
    return [weight.int_repr().numpy(), scales.float().numpy(), bias.numpy()]


def plus_zero(graph: torch.Graph) -> None:
    """All zeros become +0, in place: folding and masks leave -0 behind, which not every code can tell from 0."""
    for node in weights(graph):
        node.t_("value", node.t("value").detach() + 0.0)


def _own(frozen: torch.jit.ScriptModule) -> torch.Graph:
    """A copy without ``self``."""
    graph = frozen.graph.copy()
    if next(graph.inputs()).uses():
        raise MobilepruneError(
            "the model changes buffers of its own when it is run, which only a dense fp32 file can do"
        )
    graph.eraseInput(0)
    return graph


def _array(node: torch.Node) -> Array:
    return np.ascontiguousarray(node.t("value").numpy())


def _argument(operator: torch._ops.OpOverloadPacket) -> torch._C.JitType:
    """The type of the first."""
    return operator.default._schema.arguments[0].type


def _lift(graph: torch.Graph, name: str, nodes: list[torch.Node], element: torch._C.JitType) -> None:
    """What ``nodes`` are becomes an input, the list ``name``."""
    values = graph.addInput(name)
    values.setType(torch.ListType(element))
    if not nodes:
        return
    unpack = graph.prependNode(graph.create("prim::ListUnpack", [values], len(nodes)))
    for node, output in zip(nodes, unpack.outputs(), strict=True):
        output.setType(element)
        node.output().replaceAllUsesWith(output)
        node.destroy()


def _function(graph: torch.Graph) -> Callable[..., Tensor]:
    return torch._C._create_function_from_graph("net", graph)


def _scripted(module: nn.Module) -> torch.jit.ScriptModule:
    made = torch.jit.script(module.eval())
    # Older bytecode is made by reading the source, which would name `net` and not have it.
    torch._C._jit_pass_inline(made.forward.graph)  # type: ignore[attr-defined]
    return made
