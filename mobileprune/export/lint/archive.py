"""What must not be in a TorchScript-lite archive: only the records that the interpreter reads, and weights in them.

Pickles are read as a list of opcodes (:mod:`pickletools`); nothing of them is run.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mobileprune.bounds import ZIP_COMPRESSIONS
from mobileprune.export.lint import any_file

MAX_GROWTH = 2**26
"""Bytes that an archive may unpack to beyond its own: torch packs nothing."""
MAX_RECORDS = 20_000
MAX_OPCODES = 1_000_000
"""Of all pickles together; torchvision's EfficientNet-B7 has 107,000."""
MASK_VALUES = 16  # fewer zeros and ones than this occur by chance
DESCRIPTORS = (0, 12, 16, 20, 24)  # bytes that may follow a record: nothing, or its sizes once more
KNOWN = re.compile(
    r"(data|constants|bytecode)\.pkl|(data|constants|bytecode)/\d+(\.storage)?|version|byteorder|\.data/(serialization_id|version)"
)
STORAGES = ("constants/", "data/", "bytecode/")
DEBUG = re.compile(r"code/.*|.*debug.*|.*callstack.*")
PADDING = re.compile(rb"(FB..Z*)?", re.DOTALL)  # with which torch aligns records

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Archive:
    """``records`` by name, without the folder that they all lie in; ``constants``: those of the pickles."""

    content: bytes
    infos: list[zipfile.ZipInfo]
    records: dict[str, bytes]
    constants: dict[str, list[object]]
    start_dir: int
    comment: bytes


Found = Iterator[tuple[str, str]]
Rule = Callable[[Archive, Shape | None], Found]


def findings(content: bytes, input_shape: Shape | None) -> Iterator[tuple[str, str, str]]:
    """(rule, record, what); ValueError when the archive is broken."""
    archive = _opened(content)
    for rule, check in RULES.items():
        for where, what in check(archive, input_shape):
            yield rule, where, what
    for name, record in archive.records.items():
        for rule, text in any_file.matches(record):
            yield rule, name, text


def _opened(content: bytes) -> Archive:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            infos = sorted(file.infolist(), key=lambda info: info.header_offset)
            if len(infos) > MAX_RECORDS:
                raise ValueError(f"{len(infos):,} records, more than {MAX_RECORDS:,}")
            if sum(info.file_size for info in infos) > len(content) + MAX_GROWTH:
                raise ValueError(f"unpacks to more than {MAX_GROWTH:,} bytes beyond its own")
            if any(info.compress_type not in ZIP_COMPRESSIONS for info in infos):
                raise ValueError("is compressed as no such archive is")
            records = {info.filename.partition("/")[2] or info.filename: file.read(info) for info in infos}
            return Archive(content, infos, records, _constants(records), file.start_dir, file.comment)
    except Exception as error:  # what zipfile's decompressors raise has no common base
        raise ValueError(str(error)) from error


def _records(archive: Archive, _: Shape | None) -> Found:
    """Records that the lite interpreter does not need."""
    if len(archive.records) < len(archive.infos):
        yield "", "two records of one name"
    for name in archive.records:
        if not KNOWN.fullmatch(name):
            yield name, "source or debug record" if DEBUG.fullmatch(name) else "unknown record"


def _hidden(archive: Archive, _: Shape | None) -> Found:
    """Bytes that belong to no record."""
    if archive.comment:
        yield "", f"comment of {len(archive.comment)} bytes"
    position = 0
    for info in archive.infos:
        if info.header_offset - position not in DESCRIPTORS:
            yield "", f"{info.header_offset - position:,} bytes before record {info.filename}"
        header = archive.content[info.header_offset : info.header_offset + 30]
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = info.header_offset + 30 + name
        if info.extra or info.comment or not PADDING.fullmatch(archive.content[start : start + extra]):
            yield info.filename.partition("/")[2], "bytes beside the record"
        position = start + extra + info.compress_size
    if archive.start_dir - position not in DESCRIPTORS:
        yield "", f"{archive.start_dir - position:,} bytes after the last record"


def _unused(archive: Archive, _: Shape | None) -> Found:
    """Storages that no pickle names."""
    named = {text for constants in archive.constants.values() for text in constants if isinstance(text, str)}
    for name in archive.records:
        if name.startswith(STORAGES) and not {name, name.partition("/")[2]} & named:
            yield name, "tensor that nothing uses"


def _images(archive: Archive, input_shape: Shape | None) -> Found:
    """Tensors of the input's shape, more than one of them."""
    if input_shape is None:
        return
    channels, height, width = input_shape
    for name, constants in archive.constants.items():
        for shape in _tuples(constants):
            if len(shape) == 4 and shape[0] > 1 and shape[1:] in (input_shape, (height, width, channels)):
                yield name, f"tensor of shape {shape}: {shape[0]} images?"


def _masks(archive: Archive, _: Shape | None) -> Found:
    """Storages of zeros and ones, both."""
    for name, record in archive.records.items():
        if name.startswith(STORAGES):
            for kind in ("<f4", "u1"):
                if len(record) % np.dtype(kind).itemsize == 0:
                    values = np.frombuffer(record, kind)
                    if values.size >= MASK_VALUES and ((values == 0) | (values == 1)).all() and np.ptp(values):
                        yield name, f"{values.size:,} zeros and ones: a mask that hides weights?"


def _constants(records: dict[str, bytes]) -> dict[str, list[object]]:
    """Of each pickle the opcodes' arguments in order: numbers, strings, and a mark where a tuple begins or ends."""
    found: dict[str, list[object]] = {}
    left = MAX_OPCODES
    for name in (name for name in records if name.endswith(".pkl")):
        try:
            opcodes = list(islice(pickletools.genops(records[name]), left + 1))
        except Exception as error:  # what it raises for bytes that are no pickle has no common base
            raise ValueError(f"record {name} is no pickle ({error})") from error
        if len(opcodes) > left:
            raise ValueError(f"pickles of more than {MAX_OPCODES:,} opcodes")
        found[name] = [opcode.name if argument is None else argument for opcode, argument, _ in opcodes]
        left -= len(opcodes)
    return found


def _tuples(constants: list[object]) -> Iterator[tuple[int, ...]]:
    """Tuples of four whole numbers."""
    for i in range(len(constants) - 5):
        mark, *sizes, end = constants[i : i + 6]
        if (mark, end) == ("MARK", "TUPLE") and all(type(size) is int for size in sizes):
            yield tuple(int(str(size)) for size in sizes)


RULES: dict[str, Rule] = {
    "record": _records,
    "hidden": _hidden,
    "unused": _unused,
    "images": _images,
    "mask": _masks,
}
