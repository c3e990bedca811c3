"""Try what may crash, hang or eat memory in a child process first: a native runtime that dies of a file dies there."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mobileprune.errors import ArtifactError, one_line
from mobileprune.files import write_json
from mobileprune.runtimes.base import RuntimeOptions, Session
from mobileprune.schemas import parse

TIMEOUT_SECS = 120
FREE_BYTES = 2 * 2**30
GROWTH = 128  # bytes for each byte of the file: packed weights unfold to 75 while they are unpacked
_MAX_MESSAGE = 2000  # below what a pipe always takes at once


def memory_limit(file_bytes: int) -> int:
    """How much opening a file of ``file_bytes`` and running it on one image may add, in bytes."""
    return min(FREE_BYTES + GROWTH * file_bytes, 3 * physical_bytes() // 4)


def physical_bytes() -> int:
    """Memory of this machine; 16 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 16 * 2**30


Load = Callable[[Path, bytes, RuntimeOptions], Session]
"""What makes a session of a file and its content."""


@lru_cache(maxsize=64)  # an error is not kept: such a file is tried again
def first_run(load: Load, path: Path, digest: str, options: RuntimeOptions, batches: tuple[int, ...] = (1,)) -> None:
    """ArtifactError unless a forked child can ``load`` the file and run it on black images, once for each content.

    ``digest``: SHA-256 of the content that the caller goes on with.
    """

    def run() -> None:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactError(f"{path}: was changed while it was read; try again")
        session = load(path, content, replace(options, num_threads=1))  # other threads do not exist in a child
        for batch in batches:
            session(np.zeros((batch, *options.input_shape), np.float32))

    attempt(run, path, max_bytes=memory_limit(path.stat().st_size))


def told(reader: Callable[[], Any], path: Path) -> Any:
    """What ``reader`` says of the file ``path``, asked in a child and passed on as JSON.

    A reader needs not be careful: whatever it raises, or dies of, is an ArtifactError.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"

        def tell() -> None:
            try:
                write_json(answer, reader())
            except ArtifactError:
                raise
            except Exception as error:  # what runtimes and parsers raise has no common base
                raise ArtifactError(f"{path}: cannot be read as {path.suffix} ({one_line(error)})") from error

        attempt(tell, path, max_bytes=memory_limit(path.stat().st_size))
        return parse(answer.read_bytes())


def attempt(action: Callable[[], object], path: Path, *, max_bytes: int | None = None) -> None:
    """ArtifactError unless a forked child lives through ``action``: with its message, or that of what killed the child.

    On Linux the child may add at most ``max_bytes`` to its address space. Where the system cannot fork, ``action``
    is run here.
    """
    if not hasattr(os, "fork"):
        try:
            action()
        except Exception as error:
            raise ArtifactError(_message(error, path)) from error
        return
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are no danger: the child runs one action
        pid = os.fork()
    if pid == 0:
        _child(action, path, writer, max_bytes)
    os.close(writer)
    try:
        finished = _wait(pid)
        message = os.read(reader, _MAX_MESSAGE).decode(errors="replace")
    finally:
        os.close(reader)
    if message:
        raise ArtifactError(message)
    if not finished:
        raise ArtifactError(
            f"{path}: the runtime crashes on this model or takes longer than {TIMEOUT_SECS} s for one image; "
            "it is corrupt or malicious"
        )


def _child(action: Callable[[], object], path: Path, writer: int, max_bytes: int | None) -> None:
    """Never returns."""
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        if max_bytes is not None:
            _limit(max_bytes)
        action()
        code = 0
    except Exception as error:
        os.write(writer, _message(error, path).encode(errors="replace")[:_MAX_MESSAGE])
    finally:
        os._exit(code)


def _message(error: Exception, path: Path) -> str:
    return str(error) if isinstance(error, ArtifactError) else f"{path}: cannot be run ({error!r})"


def _limit(max_bytes: int) -> None:
    if sys.platform == "linux":
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + max_bytes, resource.RLIM_INFINITY))


def _wait(pid: int) -> bool:
    """Whether the child ended by itself with exit code 0, in time."""
    deadline, ended = time.monotonic() + TIMEOUT_SECS, (0, 0)
    try:
        while ended == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.001)
            ended = os.waitpid(pid, os.WNOHANG)
    finally:
        if ended == (0, 0):  # too slow, or we were interrupted
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
    return os.WIFEXITED(ended[1]) and os.WEXITSTATUS(ended[1]) == 0
