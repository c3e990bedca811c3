"""Which values of an ONNX graph no image changes, and what ONNX Runtime says that values are, in one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from mobileprune.onnx_runtime import session, settings

Feeds = dict[str, NDArray[Any]]
RANDOM = ("Random", "Bernoulli", "Multinomial")
"""What the names of operators begin with that give something else each time. Dropout does so while it trains."""
_Functions = dict[tuple[str, str], onnx.FunctionProto]
_NEW = "mobileprune.seen."


def constant_names(model: onnx.ModelProto, stored: set[str]) -> set[str]:
    """Names of all values that no image changes and no chance, and "", which stands for an input that is left out.

    ``stored``: those of constants in the file.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    off = set(_false(model.graph))
    found = stored | {""}
    for node in model.graph.node:
        branches = any(True for _ in _branches(node))  # they may use any value around them
        if not branches and not _is_random(node, functions, off) and found.issuperset(node.input):
            found.update(node.output)
    return found


def _branches(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _false(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of stored tensors that hold one False: a Dropout given such a training_mode passes its input on."""
    for tensor in graph.initializer:
        if _is_false(tensor):
            yield tensor.name
    for node in graph.node:
        if node.op_type == "Constant" and any(a.HasField("t") and _is_false(a.t) for a in node.attribute):
            yield node.output[0]


def _is_false(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.BOOL and not numpy_helper.to_array(tensor).any()


def _is_random(node: onnx.NodeProto, functions: _Functions, off: set[str]) -> bool:
    """Of a function or branch: whether anything inside is."""
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] not in {"", *off}:
        return True
    called = functions.get((node.domain, node.op_type))
    inside = [*(called.node if called else ()), *(inner for branch in _branches(node) for inner in branch.node)]
    own = called is None and node.op_type.startswith(RANDOM)
    return own or any(_is_random(inner, functions, set()) for inner in inside)


def ask(
    model: onnx.ModelProto, values: set[str], shapes: set[str], feeds: Feeds
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[int, ...]]]:
    """The ``values``, and the ``shapes`` of others, that the graph makes of ``feeds``; raises what the runtime does.

    Operator by operator, as the file says: weights that are sparse, packed, halved or quantised come unfolded.
    """
    questions = [("Identity", name) for name in sorted(values)] + [("Shape", name) for name in sorted(shapes)]
    if not questions:
        return {}, {}
    nodes = [helper.make_node(kind, [name], [f"{_NEW}{i}"]) for i, (kind, name) in enumerate(questions)]
    asking = onnx.ModelProto()
    asking.CopyFrom(model)
    asking.graph.node.extend(nodes)
    del asking.graph.output[:]
    asking.graph.output.extend(helper.make_empty_tensor_value_info(node.output[0]) for node in nodes)
    options = settings(level="DISABLE_ALL", model_format="ONNX", bounded=True)
    answers = dict(zip(questions, session(asking.SerializeToString(), options).run(None, feeds), strict=True))
    return (
        {name: np.asarray(answer) for (kind, name), answer in answers.items() if kind == "Identity"},
        {name: tuple(int(size) for size in answer) for (kind, name), answer in answers.items() if kind == "Shape"},
    )


def only(model: onnx.ModelProto, constants: set[str]) -> onnx.ModelProto:
    """The part of ``model`` that makes the ``constants``, of which :func:`ask` then needs no image."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    kept = [node for node in part.graph.node if constants.issuperset(node.output)]
    inputs = [value for value in part.graph.input if value.name in constants]
    del part.graph.node[:], part.graph.input[:], part.graph.value_info[:]
    part.graph.node.extend(kept)
    part.graph.input.extend(inputs)
    return part
