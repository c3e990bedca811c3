"""A node of an ONNX graph, read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper
from torch import Tensor

from mobileprune.runtimes.onnx_checks import STANDARD


class UnsupportedError(Exception):
    """What of an operator is not known here."""


@dataclass(frozen=True)
class Node:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, node: onnx.NodeProto) -> Node:
        kind = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return cls(kind, tuple(node.input), tuple(node.output), attributes)

    def get(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)


Inputs = Sequence[Any]
"""Tensors, None for those that are left out."""
Operator = Callable[[Node, Inputs], Sequence[Tensor]]


def ints(node: Node, inputs: Inputs, at: int, name: str) -> list[int] | None:
    """Whole numbers that newer operators take as an input, older ones as an attribute."""
    given = inputs[at] if len(inputs) > at else None
    found = given.flatten().tolist() if given is not None else node.get(name, None)
    return None if found is None else [int(value) for value in found]


def optional(inputs: Inputs, at: int) -> Any:
    """The input, or None where it is left out."""
    return inputs[at] if len(inputs) > at else None
