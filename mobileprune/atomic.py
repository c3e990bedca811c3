"""Files and folders that are never half-written: made under a temporary name, then renamed once.

Temporary names are ``.NAME.<host>-<pid>.<random>``, so that what a killed process left behind is known
as such and cleared away by the next one that writes NAME. A link stays: what it leads to is written.

Whoever may read a file or folder may read what replaces it. The mode of a new one is left to the system, which heeds
the umask and the folder's rules; to ask Python for the umask is to change it, for all threads.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mobileprune.errors import MobilepruneError

OLD = ".old"


def unwritable(path: Path, error: OSError) -> MobilepruneError:
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
        raise unwritable(path, error) from error
    try:
        yield temporary
        try:
            if mode is not None:
                temporary.chmod(mode)
            os.replace(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error
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
        raise unwritable(path, error) from error
    old = temporary.with_name(temporary.name + OLD)
    try:
        yield temporary
        try:
            if replace and path.exists():
                os.rename(path, old)
            os.rename(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            os.rename(old, path)
        elif old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
