"""A program here that speaks with a device: what it may say and bring, and for how long, has an end.

The device is not believed: it may send more than it announced, or nothing for ever.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO

from mobileprune.devices.base import cause
from mobileprune.errors import DeviceError

MAX_SAID_BYTES = 2**24
"""Of each, stdout and stderr: hashes, facts and messages."""
POLL_SECS = 0.02

Sizes = Callable[[], int]


def nothing() -> int:
    return 0


def spoken(
    name: str,
    command: Sequence[str],
    *,
    timeout_secs: float,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | None = None,
    brought: Sizes = nothing,
    max_bytes: int = 0,
) -> subprocess.CompletedProcess[bytes]:
    """``command``, killed once it says more than ``MAX_SAID_BYTES`` or has ``brought`` more than ``max_bytes``.

    ``stdout``: the file for what it brings, instead of text. DeviceError, of the device ``name``, where it cannot be
    run or sends too much; subprocess.TimeoutExpired where it takes too long.
    """
    # Files, not pipes: nobody has to read from them while it runs, and no child of it can keep them open.
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        limits: list[tuple[Sizes, int]] = [(_size(said), MAX_SAID_BYTES), (_size(complained), MAX_SAID_BYTES)]
        limits.append((brought, max_bytes))
        deadline = time.monotonic() + timeout_secs
        try:
            client = subprocess.Popen(
                command, stdin=stdin, stdout=stdout or said, stderr=complained, env={**os.environ, "LC_ALL": "C"}
            )
        except OSError as error:
            raise DeviceError(f"{name}: cannot run {command[0]}: {cause(error)}") from error
        with client:
            try:
                while not _ended(client, min(POLL_SECS, max(deadline - time.monotonic(), 0))):
                    _check(name, limits)
                    if time.monotonic() >= deadline:
                        raise subprocess.TimeoutExpired(command, timeout_secs)
            except BaseException:
                client.kill()
                raise
        _check(name, limits)
        said.seek(0)
        complained.seek(0)
        return subprocess.CompletedProcess(command, client.returncode, said.read(), complained.read())


def _ended(client: subprocess.Popen[bytes], secs: float) -> bool:
    try:
        client.wait(secs)
    except subprocess.TimeoutExpired:
        return False
    return True


def _size(file: IO[bytes]) -> Sizes:
    return lambda: os.fstat(file.fileno()).st_size


def _check(name: str, limits: list[tuple[Sizes, int]]) -> None:
    for size, most in limits:
        if size() > most:
            raise DeviceError(f"{name}: sends more than the {most:,} bytes that are expected; do not trust it")
