"""Walking an ONNX model, for the rules of lint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.message import Message

STANDARD = ("", "ai.onnx")

Shape = tuple[int, int, int]
Found = Iterator[tuple[str, str]]
Rule = Callable[[onnx.ModelProto, Shape | None], Found]
"""(model, input shape (C, H, W) if known) -> (where, what) of each finding."""


def messages(message: Message) -> Iterator[Any]:
    """``message`` and all inside it, however deep."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                yield from messages(item)


def parts(model: onnx.ModelProto) -> Iterator[Any]:
    """Every graph and function."""
    return (part for part in messages(model) if part.DESCRIPTOR.name in ("GraphProto", "FunctionProto"))


def label(message: Any) -> str:
    """Such as ``node conv1``."""
    kind = message.DESCRIPTOR.name.removesuffix("Proto").lower()
    return f"{kind} {message.name}".strip() if "name" in message.DESCRIPTOR.fields_by_name else kind
