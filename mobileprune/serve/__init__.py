"""A page to look through run stores and folders of artifacts: on this machine only, and for reading only.

Served is what was found below the folders that were named, by an id drawn from where it lies; nothing in an address is
ever taken for a path. The server binds to the loopback address, answers only requests that name it (so that no web site
reaches it by a host name of its own, DNS rebinding), takes nothing but GET, and lets pages run no script.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from mobileprune.errors import MobilepruneError, TargetUnavailableError, UsageError

HOST = "127.0.0.1"
DEFAULT_PORT = 8765


def serve(folders: Sequence[Path], port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; ``ready`` hears the address. ``port`` 0: any that is free.

    TargetUnavailableError without the packages of the extra; MobilepruneError where the port is taken.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: give run stores, or folders with artifacts or sweeps in them")
    try:
        from mobileprune.serve.app import run
    except ImportError as error:
        raise TargetUnavailableError(
            f"serve needs Starlette and Uvicorn ({error}): pip install 'mobileprune[serve]'"
        ) from error
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise MobilepruneError(f"cannot listen at {HOST}:{port}: {error}; choose another --port, or 0") from error
        run(folders, listener, lambda: ready(f"http://{HOST}:{listener.getsockname()[1]}/"))
