"""Reading files without waiting and within bounds, their hashes, and writing text and JSON whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

from mobileprune.atomic import atomic_file, unwritable
from mobileprune.errors import UsageError

MOST_LINKS = 40
"""As many as the system follows."""


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_regular(path: Path, limit: int) -> bytes:
    """The whole of a file of at most ``limit`` bytes; OSError where it is larger, or no file: opening a named pipe
    waits for whoever writes to it, and a device need not end."""

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return content


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomically, except into what is no file: an open descriptor (``/dev/stdout``), a terminal, a named pipe.

    Half a surrogate pair, as names of files that are not UTF-8 have it in Python, becomes a question mark.
    """
    content = text.encode("utf-8", "replace")
    if (descriptor := _descriptor(path)) is not None:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()  # what was printed before comes before
        try:
            with open(os.dup(descriptor), "wb") as file:
                file.write(content)
        except OSError as error:
            raise unwritable(path, error) from error
    elif path.is_fifo() or path.is_char_device():
        path.write_bytes(content)
    else:
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)


def _descriptor(path: Path) -> int | None:
    """The number of this process's descriptor that ``path`` leads to. The file that it is redirected to is neither
    to be replaced nor to be opened anew, which would write over what else goes there."""
    for _ in range(MOST_LINKS):
        place = Path(os.path.realpath(path.parent), path.name)
        if found := re.fullmatch(rf"/(?:proc/{os.getpid()}(?:/task/\d+)?|dev)/fd/(\d+)", str(place)):
            return int(found[1])
        if not os.path.islink(place):
            return None
        path = place.parent / place.readlink()
    return None


def cache_folder(name: str, variable: str, way_out: str) -> Path:
    """The folder that ``variable`` of the environment names, else ``name`` in the user's cache folder."""
    if own := os.environ.get(variable):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", name)
    except RuntimeError as error:  # neither HOME nor an entry in the list of users, as in many a container
        raise UsageError(f"there is no home folder to keep a cache in: {way_out}") from error
