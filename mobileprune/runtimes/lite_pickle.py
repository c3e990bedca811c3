"""The pickles of a lite archive as plain values, read from their opcodes: nothing of them is run.

PyTorch writes few opcodes, and its reader in C++ takes a tensor's offset, sizes and strides as they are: here a tensor
that reaches beyond the bytes of its record is an error, as is all else that PyTorch does not write.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ITEM_BYTES = {
    **dict.fromkeys(("BoolStorage", "ByteStorage", "CharStorage", "QInt8Storage", "QUInt8Storage"), 1),
    **dict.fromkeys(("BFloat16Storage", "HalfStorage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage", "ComplexHalfStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_qtensor")
MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class CorruptError(ValueError):
    """What the pickle says that no file of PyTorch says."""


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle names."""

    text: str


@dataclass(frozen=True, eq=False)
class Instance:
    """An object: its class, and its attributes in their order."""

    type: str
    attributes: tuple[Any, ...]


@dataclass(frozen=True)
class Storage:
    """``count`` elements of ``item_bytes`` bytes each."""

    count: int
    item_bytes: int


def value(record: bytes, record_bytes: Mapping[str, int]) -> Any:
    """The value of a pickle: numbers, texts, tuples, lists, dicts, :class:`Instance`; None for a tensor.

    ``record_bytes``: key of a storage -> bytes of its record. Raises :class:`CorruptError`, or what
    :func:`pickletools.genops` raises.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(record):
        try:
            _step(opcode.name, argument, stack, memo, record_bytes)
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise CorruptError(f"{opcode.name} of what cannot have it") from error
    if len(stack) != 1:
        raise CorruptError(f"{len(stack)} values instead of one")
    return stack[0]


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any], record_bytes: Mapping[str, int]) -> None:
    match name:
        case "PROTO" | "STOP":
            pass
        case "MARK":
            stack.append(MARK)
        case "NONE" | "NEWTRUE" | "NEWFALSE":
            stack.append(CONSTANTS[name])
        case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
            stack.append(argument)
        case "GLOBAL":
            stack.append(Name(argument))
        case "BINPUT" | "LONG_BINPUT":
            memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(memo[argument])
        case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
            stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[name]())
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            stack.append(tuple([stack.pop() for _ in range(int(name[-1]))][::-1]))
        case "TUPLE":
            stack.append(tuple(_marked(stack)))
        case "APPENDS":
            items = _marked(stack)
            _the(list, stack[-1]).extend(items)
        case "SETITEMS":
            items = _marked(stack)
            _the(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        case "BINPERSID":
            stack.append(_storage(stack.pop(), record_bytes))
        case "NEWOBJ":  # the object is made by BUILD
            stack.pop()
            _the(Name, stack[-1])
        case "BUILD":
            attributes = _the(dict, stack.pop())
            if not all(isinstance(key, str) for key in attributes):  # for PyTorch 1 and True are two keys
                raise TypeError("attributes are named by texts")
            stack.append(Instance(_the(Name, stack.pop()).text, tuple(attributes.values())))
        case "REDUCE":
            arguments = _the(tuple, stack.pop())
            stack.append(_called(_the(Name, stack.pop()).text, arguments))
        case _:
            raise CorruptError(f"opcode {name}")


def _the(kind: type[Any], item: Any) -> Any:
    if type(item) is not kind:
        raise TypeError(f"{type(item).__name__} instead of {kind.__name__}")
    return item


def _marked(stack: list[Any]) -> list[Any]:
    """Takes off the stack what lies above the last mark, and the mark."""
    items: list[Any] = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _storage(named: Any, record_bytes: Mapping[str, int]) -> Storage:
    _, kind, key, device, count = _the(tuple, named)
    item_bytes = ITEM_BYTES[_the(Name, kind).text.removeprefix("torch ")]
    if device != "cpu" or not 0 <= _the(int, count) * item_bytes <= record_bytes.get(key, 0):
        raise CorruptError(
            f"storage {key!r} of {count} x {item_bytes} bytes: its record has {record_bytes.get(key, 0)}"
        )
    return Storage(count, item_bytes)


def _called(function: str, arguments: tuple[Any, ...]) -> Any:
    if function in TENSORS:
        return _tensor(*arguments[:4])
    if function == "collections OrderedDict" and not arguments:
        return {}
    if function.startswith("torch.jit._pickle "):  # gives a type to the value that is the first argument
        return arguments[0]
    raise CorruptError(f"call of {function}")


def _tensor(storage: Any, offset: Any, sizes: Any, strides: Any) -> None:
    """The last element lies at offset + sum of (size - 1) stride; a tensor without elements lies nowhere."""
    numbers = [_the(int, n) for n in (offset, *_the(tuple, sizes), *_the(tuple, strides))]
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min(numbers) < 0 or (0 not in sizes and last >= _the(Storage, storage).count):
        raise CorruptError(
            f"tensor of sizes {sizes}, strides {strides} at {offset}: its storage has {storage.count} elements"
        )
