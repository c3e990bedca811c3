"""Arrays of an ``.npz`` file that anybody may have made: what one claims to be is looked at before it is read.

:func:`numpy.load` believes a header, and makes room for as many numbers as it names.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mobileprune.bounds import ZIP_COMPRESSIONS
from mobileprune.errors import DataError, one_line

PART_BYTES = 2**20
MAX_HEADER_BYTES = 2**14
"""numpy refuses headers of more than 10,000 characters, once it has them in memory."""


@dataclass(frozen=True, eq=False)
class Member:
    """An array that was not read yet: shape and type are what its header says, and its file promises as many bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool
    archive: zipfile.ZipFile
    start: int

    def parts(self) -> Iterator[bytes]:
        """Its bytes, as far as they are there."""
        try:
            with self.archive.open(f"{self.name}.npy") as stream:
                stream.read(self.start)
                while part := stream.read(PART_BYTES):
                    yield part
        except OSError as error:  # which, to whoever writes the parts, would be one of writing
            raise ValueError(str(error)) from error

    def shaped(self, flat: NDArray[Any]) -> NDArray[Any]:
        return flat.reshape(self.shape, order="F" if self.columns_first else "C")

    def array(self) -> NDArray[Any]:
        """In memory, of which it takes no more than the bytes that are there."""
        content = bytearray()
        for part in self.parts():
            content += part
        return self.shaped(np.frombuffer(content, self.dtype))


class Members:
    """What an archive holds, by name. Each is looked at when it is asked for: ValueError where it is no plain array."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive, self._names = archive, frozenset(archive.namelist())

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._names

    def __getitem__(self, name: str) -> Member:
        info = self._archive.getinfo(f"{name}.npy")
        if info.compress_type not in ZIP_COMPRESSIONS:
            raise ValueError(f"{name} is compressed as numpy does not")
        with self._archive.open(info) as stream:
            start = io.BytesIO(stream.read(MAX_HEADER_BYTES))
        read_header = npy.read_array_header_1_0 if npy.read_magic(start) == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read_header(start)
        if dtype.kind in "OV":
            raise ValueError(f"{name} holds objects or records")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{name} has shape {shape}")
        claimed, there = math.prod(shape) * dtype.itemsize, info.file_size - start.tell()
        if claimed != there:
            raise ValueError(f"{name} claims {claimed:,} bytes, of which there are {there:,}")
        return Member(name, shape, dtype, columns_first, self._archive, start.tell())


@contextmanager
def members(path: Path, wrong: str) -> Iterator[Members]:
    """DataError, which begins with ``wrong``, for whatever is raised while the file is open."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Members(archive)
    except DataError:
        raise
    except Exception as error:  # what readers of headers and of archives raise has no common base
        raise DataError(f"{wrong} ({one_line(error) or type(error).__name__})") from error
