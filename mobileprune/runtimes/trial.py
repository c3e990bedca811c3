"""Try what may crash in a child process first: a native interpreter that dies of a malformed file dies there."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable

TIMEOUT_SECS = 120


def survives(action: Callable[[], object]) -> bool:
    """Whether a forked child lives through ``action``; its exceptions do not count, the caller meets them again.

    True where the system cannot fork.
    """
    if not hasattr(os, "fork"):
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are no danger: the child runs one action
        pid = os.fork()
    if pid == 0:
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            action()
        finally:
            os._exit(0)
    deadline = time.monotonic() + TIMEOUT_SECS
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return os.WIFEXITED(ended[1])
