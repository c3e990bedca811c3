"""Files that PyTorch's lite interpreter would take, and use memory that is not theirs: refused, whatever a run does."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runtimes import Files, opened

from mobileprune.errors import ArtifactError
from mobileprune.runtimes.lite_bytecode import Code, forward, verify
from mobileprune.runtimes.lite_pickle import CorruptError, Instance, Storage, _tensor, value

TARGET = "torchscript-lite"
ADD, FORMAT = (2, 1), (None, 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5).map(tuple) | st.lists(inner, min_size=2, max_size=5),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=100)
def test_values_are_those_that_python_reads(written: Any) -> None:
    assert value(pickle.dumps(written, protocol=2), {}) == written


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=3), st.integers(0, 5), st.integers(0, 40))
@settings(max_examples=200)
def test_a_tensor_lies_in_its_storage_where_pytorch_says_so(layout: list[tuple[int, int]], offset: int, count: int):
    sizes, strides = tuple(size for size, _ in layout), tuple(stride for _, stride in layout)
    try:
        torch.empty(count).as_strided(sizes, strides, offset)
    except RuntimeError:
        with pytest.raises(CorruptError, match=f"its storage has {count} elements"):
            _tensor(Storage(count, 4), offset, sizes, strides)
    else:
        _tensor(Storage(count, 4), offset, sizes, strides)
    assert prod(sizes) == 0 or offset + sum((n - 1) * s for n, s in layout) >= 0


def code(*lines: str, constants: int = 2, registers: int = 3) -> Code:
    words = [line.split() for line in lines]
    instructions = [(name, *map(int, (*numbers, 0, 0)[:2])) for name, *numbers in words]
    return Code(instructions, [ADD, FORMAT], constants, 1, registers)


INNER = Instance("inner", (0,))
MODEL = Instance("model", (0, INNER))


@pytest.mark.parametrize(
    "lines",
    [
        ("STOREN 1 2", "LOAD 2", "LOADC 1", "OP 0", "RET"),
        ("STOREN 1 2", "LOAD 1", "GET_ATTR 1", "GET_ATTR 0", "RET"),
        ("STOREN 1 2", "LOAD 1", "LOAD 2", "SET_ATTR 0", "LOAD 2", "RET"),
        ("STOREN 1 2", "LOADC 0", "JF 3", "LOAD 2", "JMP 2", "LOADC 1", "RET"),
        ("STOREN 1 2", "LOADC 0", "LOADC 0", "LOADC 0", "LOAD 2", "LOOP 4 3", "DROP", "LOADC 1", "JMP -3", "RET"),
        (
            "STOREN 1 2",
            "LOADC 0",
            "LOADC 0",
            "OPN 1 2",
            "LIST_CONSTRUCT 0 1",
            "LIST_UNPACK 3",
            "TUPLE_CONSTRUCT 3",
            "RET",
        ),
        ("DROP", "GET_ATTR 1", "STORE 3", "MOVE 3", "GET_ATTR 0", "RET"),
        ("RAISE_EXCEPTION",),
    ],
    ids=str,
)
def test_a_program_that_uses_what_is_there_passes(lines: tuple[str, ...]) -> None:
    verify(code(*lines), MODEL)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("LOADC 2", "RET"), "constant 2 of 2"),
        (("LOADC -1", "RET"), "constant -1 of 2"),
        (("OP 2", "RET"), "operator 2 of 2"),
        (("OP 1", "RET"), "any number"),
        (("OPN 0 1", "RET"), "takes 2 of values"),
        (("OPN 1 3", "RET"), "OPN takes 3 values, the stack has 2"),
        (("LOAD 0", "RET"), "register -1 of 3"),
        (("LOAD 4", "RET"), "register 3 of 3"),
        (("STOREN 3 2", "LOADC 0", "RET"), "register 4 of 4"),
        (("DROP", "STOREN 1 2", "LOADC 0", "RET"), "STOREN takes 2 values, the stack has 1"),
        (("DROP", "DROP", "RET"), "RET takes 1 values, the stack has 0"),
        (("DROP", "DROP", "DROP", "LOADC 0", "RET"), "DROP takes 1 values, the stack has 0"),
        (("GET_ATTR 0", "RET"), "what is no object"),
        (("DROP", "GET_ATTR 2", "RET"), "attribute 2 of 2"),
        (("DROP", "GET_ATTR 0", "GET_ATTR 0", "RET"), "what is no object"),
        (("DROP", "LOADC 0", "SET_ATTR 1", "LOADC 0", "RET"), "an object of the model is replaced"),
        (("STOREN 1 2", "LOAD 1", "LOAD 1", "SET_ATTR 0", "LOADC 0", "RET"), "an object of the model is replaced"),
        (("STOREN 1 2", "MOVE 1", "DROP", "LOAD 1", "GET_ATTR 0", "RET"), "what is no object"),
        (("JMP 2", "RET"), "jump to an instruction 2 of 2"),
        (("JMP -1", "RET"), "jump to an instruction -1 of 2"),
        (("LOADC 0",), "jump to an instruction 1 of 1"),
        (("LOADC 0", "JF 2", "LOADC 0", "RET"), "2 or 3 values|3 or 2 values"),
        (("LOADC 0", "JMP -1"), "values on the stack"),
        (("LOOP 1 2", "RET"), "LOOP takes 3 values, the stack has 2"),
        (("LOOP 1 1", "RET"), "values of a loop 1"),
        (("TUPLE_CONSTRUCT -1", "RET"), "TUPLE_CONSTRUCT takes -1 values"),
        (("LIST_UNPACK -1", "RET"), "items of a list -1"),
        (("LIST_CONSTRUCT 1 1", "RET"), "type 1 of 1"),
        (("ISINSTANCE 0 2", "RET"), "type 2 of 2"),
        (
            ("DROP", "STORE 1", "LOADC 0", "JF 3", "LOAD 1", "JMP 2", "LOADC 1", "GET_ATTR 0", "RET"),
            "what is no object",
        ),
        (("TUPLE_SLICE 0 9", "RET"), "which no image classifier needs"),
        (("INTERFACE_CALL 0 1", "RET"), "which no image classifier needs"),
    ],
    ids=str,
)
def test_a_program_that_uses_what_is_not_there_is_refused(lines: tuple[str, ...], says: str) -> None:
    with pytest.raises(CorruptError, match=says):
        verify(code(*lines), MODEL)


def method(*operators: tuple[Any, ...], name: str = "net.forward", instructions: Any = ()) -> tuple[Any, ...]:
    fields = (("instructions", instructions), ("operators", operators), ("constants", ()), ("types", ()))
    return name, (*fields, ("register_size", 0)), ()


def test_operators_take_what_is_given_and_outputs_but_not_their_defaults() -> None:
    taken = [("aten::add", "Tensor", n) for n in (2, 3)] + [("aten::add", "out", 3), ("aten::format", "", 1)]
    assert forward((8, method(*taken))).operators == [(2, 1), (3, 1), (3, 1), (None, 1)]


@pytest.mark.parametrize(
    ("bytecode", "says"),
    [
        ((8, method(("aten::add", "Tensor", 1))), "add.Tensor with 1"),
        ((8, method(("aten::add", "Tensor", 4))), "add.Tensor with 4"),
        ((8, method(("aten::add", "none", 2))), "add.none: unknown"),
        ((8, method(("prim::TupleUnpack", "", 1))), "TupleUnpack.: unknown, or with any number of results"),
        ((8, method(), method()), "methods are"),
        ((8, method(name="net.__setstate__")), "methods are"),
        ((8, method(instructions=(("LOAD", 1, 2**16),))), "instruction LOAD 1 65536"),
        ((8, (*method()[:1], method()[1][:4], ())), "fields other than"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_bytecode_that_is_no_classifiers_is_refused(bytecode: tuple[Any, ...], says: str) -> None:
    with pytest.raises(CorruptError, match=says):
        forward(bytecode)


def changed(content: bytes, **records: Any) -> bytes:
    """The archive with some records replaced by what a function makes of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as good, zipfile.ZipFile(buffer, "w") as bad:
        for name in good.namelist():
            change = records.get(name.rpartition("/")[2].partition(".")[0], bytes)
            bad.writestr(name, change(good.read(name)))
    return buffer.getvalue()


def beyond(bytecode: bytes) -> bytes:
    """The number of the first constant that is loaded, set to one that is not there."""
    opcodes = [(opcode.name, argument, at) for opcode, argument, at in pickletools.genops(bytecode)]
    at = next(i for i, (_, argument, _) in enumerate(opcodes) if argument == "LOADC")
    number = next(place for name, _, place in opcodes[at:] if name == "BININT1")
    return bytecode[: number + 1] + b"\xc8" + bytecode[number + 2 :]


def test_a_constant_that_is_not_there_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"corrupt record bytecode.pkl \(CorruptError: constant 200 of"):
        opened(changed(files[TARGET, False], bytecode=beyond), tmp_path, TARGET)


def test_a_tensor_longer_than_its_record_is_refused(files: Files, tmp_path: Path) -> None:
    for storage in ("0", "1"):
        with pytest.raises(ArtifactError, match=f"storage '{storage}.*' of .* its record has"):
            opened(changed(files[TARGET, False], **{storage: lambda record: record[:-4]}), tmp_path, TARGET)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", ["archive/bytecode.pkl", "other/bytecode.pkl"])
def test_two_records_that_one_name_may_mean_are_refused(files: Files, tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO(files[TARGET, False])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, archive.read("archive/bytecode.pkl"))
    with pytest.raises(ArtifactError, match="records of one name"):
        opened(buffer.getvalue(), tmp_path, TARGET)
