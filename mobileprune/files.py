"""Writing files so that nothing is ever half-written: to a temporary name, then one rename.

Temporary names are ``.NAME.<host>-<pid>.<random>``, so that what a killed process left behind is known
as such and cleared away by the next one that writes NAME.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobileprune.errors import MobilepruneError

OLD = ".old"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomically, except into what is no file (``/dev/stdout``, a named pipe)."""
    if path.is_fifo() or path.is_char_device():
        path.write_text(text, encoding="utf-8")
        return
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _unwritable(path: Path, error: OSError) -> MobilepruneError:
    return MobilepruneError(f"cannot write {path}: {error.strerror or error}; choose a writable folder with -o")


def _host() -> str:
    """Tells machines apart that share a folder, without naming them."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _prefix(path: Path, pid: int | str) -> str:
    return f".{path.name}.{_host()}-{pid}."


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def is_free(path: Path) -> bool:
    """Whether a new folder may take the place: nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def clear_leftovers(path: Path) -> None:
    """Remove temporaries of ``path`` whose process was killed; put a folder back that was moved away last."""
    if os.name != "posix":  # elsewhere asking for a process by its number can end it
        return
    start = _prefix(path, "")[:-1]
    for found in path.parent.iterdir() if path.parent.is_dir() else ():
        pid = found.name.removeprefix(start).partition(".")[0]
        if not found.name.startswith(start) or not pid.isdecimal() or _alive(int(pid)):
            continue
        if found.suffix == OLD and not path.exists():
            found.rename(path)
        elif found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it becomes ``path``, on failure it goes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path, os.getpid()))
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block succeeds.

    With ``replace`` an existing folder is moved away first and removed last; a kill between the two
    renames is mended by :func:`clear_leftovers` of the next writer.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path, os.getpid())))
    except OSError as error:
        raise _unwritable(path, error) from error
    temporary.chmod(0o755)
    old = temporary.with_name(temporary.name + OLD)
    try:
        yield temporary
        try:
            if replace and path.exists():
                os.rename(path, old)
            os.rename(temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            os.rename(old, path)
        elif old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
