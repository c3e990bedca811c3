"""Bytes in a temporary file that look like an array: the system holds in memory what of them is in use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import DataError


def on_disk(name: str, parts: Iterable[bytes | memoryview]) -> NDArray[np.uint8]:
    """All ``parts`` of the data set ``name``, one after the other, as (size,) uint8 mapped from a file without a name.

    The file is gone with the array, or with the process however that ends. DataError where it cannot be written.
    """
    # Written before it is mapped: a full disk then is an error, and not a signal that kills.
    size = 0
    try:
        with tempfile.TemporaryFile() as file:
            for part in parts:
                size += file.write(part)
            file.flush()
            return np.asarray(np.memmap(file, np.uint8, "r+", shape=(size,))) if size else np.zeros(0, np.uint8)
    except OSError as error:
        raise DataError(
            f"{name}: its decoded images do not fit into {tempfile.tempdir or 'a temporary folder'}: "
            f"{error.strerror or error} after {size:,} bytes; free some, or name a folder on another disk in TMPDIR"
        ) from error
