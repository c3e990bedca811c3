"""What the command line is started with and cannot choose: its streams, the signal that ends it, the environment."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, on whose way out temporary folders go and processes end."""


def open_streams() -> None:
    """Of standard streams that are closed (``>&-``) the null device takes the place: else the file that is opened next
    has their number, and what is printed goes into it. No text is one that cannot be printed."""
    for descriptor, (name, mode) in enumerate(STREAMS.items()):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (it stays)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python has it for stderr


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated meanwhile, unless whoever started this, or whoever calls, has it otherwise."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
