"""A TorchScript-lite archive with what the lite interpreter reads, and nothing else.

What goes: source text with file paths (``code/``), the constants of the full interpreter (``constants.pkl`` and its
tensors), and shared constants (``constants/N.storage``) that no bytecode names. In older bytecode N is an address in
the memory of the process that wrote it; it becomes a number that is the same in every run.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import torch

UNREAD = re.compile(r"code/.*|constants\.pkl|constants/\d+")
WRITTEN_BY_TORCH = ("version", "byteorder", ".data/serialization_id")
SHARED = re.compile(rb"(\d+)\.storage")
ADDRESS_DIGITS = 9


def strip(source: Path) -> bytes:
    """The content of the archive ``source`` without what is not read."""
    reader = torch._C.PyTorchFileReader(str(source))
    names = [n for n in reader.get_all_records() if not UNREAD.fullmatch(n) and n not in WRITTEN_BY_TORCH]
    records = {name: reader.get_record(name) for name in names}
    numbers = dict[bytes, bytes]()

    def numbered(match: re.Match[bytes]) -> bytes:
        digits = match[1]
        short = len(digits) < ADDRESS_DIGITS
        number = digits if short else b"%0*d" % (len(digits), len(numbers))  # pickles tell how long a text is
        return numbers.setdefault(digits, number) + b".storage"

    buffer = io.BytesIO()  # a file name would become the archive's root folder, temporary path included
    writer = torch._C.PyTorchFileWriter(buffer)
    for name in sorted(names, key=lambda name: not name.endswith(".pkl")):
        record = records[name]
        if name.endswith(".pkl"):
            record = SHARED.sub(numbered, record)
        elif shared := SHARED.fullmatch(name.removeprefix("constants/").encode()):
            if shared[1] not in numbers:
                continue
            name = f"constants/{numbers[shared[1]].decode()}.storage"
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return buffer.getvalue()
