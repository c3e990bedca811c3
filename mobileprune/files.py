"""Writing files so that nothing is ever half-written: to a temporary name, then one rename. Reading without waiting.

Temporary names are ``.NAME.<host>-<pid>.<random>``, so that what a killed process left behind is known
as such and cleared away by the next one that writes NAME. A link stays: what it leads to is written.

Whoever may read a file or folder may read what replaces it. The mode of a new one is left to the system, which heeds
the umask and the folder's rules; to ask Python for the umask is to change it, for all threads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobileprune.errors import MobilepruneError, UsageError

OLD = ".old"
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
            raise _unwritable(path, error) from error
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


def _behind(path: Path) -> Path:
    """Where links lead to, else the rename would put the new in the place of the link."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def _mode(path: Path) -> int | None:
    """Of what is to be replaced; None where nothing is."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _beside(path: Path) -> Path:
    """A new temporary name, with all that is needed for it to be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    return path.with_name(f"{_prefix(path, os.getpid())}{secrets.token_hex(4)}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it becomes ``path``, on failure it goes."""
    path = _behind(path)
    mode = _mode(path)
    try:
        temporary = _beside(path)
        private = 0o666 if mode is None else 0o600
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, private))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        try:
            if mode is not None:
                temporary.chmod(mode)
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
    path = _behind(path)
    mode = _mode(path) if os.path.isdir(path) else None
    try:
        temporary = _beside(path)
        temporary.mkdir(0o777 if mode is None else 0o700)
        if mode is not None:
            temporary.chmod(mode | stat.S_IRWXU)
    except OSError as error:
        raise _unwritable(path, error) from error
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
