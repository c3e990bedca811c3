"""Asking ONNX Runtime what the values of a graph are, and how large, in one run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from mobileprune.onnx_runtime import session, settings

Feeds = dict[str, NDArray[Any]]
_NEW = "mobileprune.seen."


def black_image(graph: onnx.GraphProto, stored: set[str], input_shape: tuple[int, int, int] | None) -> Feeds | None:
    """A batch of one for each input that is not among the ``stored`` constants; None where its size is nowhere said."""
    feeds = {}
    for value in graph.input:
        if value.name in stored:
            continue
        kind = value.type.tensor_type
        shape: list[int] = [d.dim_value for d in kind.shape.dim]  # 0: left open
        if len(shape) == 4 and input_shape is not None:
            shape[1:] = input_shape
        shape[:1] = [size or 1 for size in shape[:1]]
        if not all(shape) or not kind.elem_type:
            return None
        feeds[value.name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return feeds


def ask(
    model: onnx.ModelProto, values: set[str], shapes: set[str], feeds: Feeds
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[int, ...]]]:
    """The ``values``, and the ``shapes`` of others, that the graph makes of ``feeds``; raises what the runtime does."""
    questions = [("Identity", name) for name in sorted(values)] + [("Shape", name) for name in sorted(shapes)]
    if not questions:
        return {}, {}
    nodes = [helper.make_node(kind, [name], [f"{_NEW}{i}"]) for i, (kind, name) in enumerate(questions)]
    asking = onnx.ModelProto()
    asking.CopyFrom(model)
    asking.graph.node.extend(nodes)
    del asking.graph.output[:]
    asking.graph.output.extend(helper.make_empty_tensor_value_info(node.output[0]) for node in nodes)
    opened = session(asking.SerializeToString(), settings(level="DISABLE_ALL", model_format="ONNX"))
    answers = dict(zip(questions, opened.run(None, feeds), strict=True))
    return (
        {name: answer for (kind, name), answer in answers.items() if kind == "Identity"},
        {name: tuple(int(size) for size in answer) for (kind, name), answer in answers.items() if kind == "Shape"},
    )


def only(model: onnx.ModelProto, constants: set[str]) -> onnx.ModelProto:
    """The part of ``model`` that no image changes."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    kept = [node for node in part.graph.node if constants.issuperset(node.output)]
    inputs = [value for value in part.graph.input if value.name in constants]
    del part.graph.node[:], part.graph.input[:]
    part.graph.node.extend(kept)
    part.graph.input.extend(inputs)
    return part
