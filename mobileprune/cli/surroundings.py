"""What the command line is started with and cannot choose: its streams, the signals that end it."""

from __future__ import annotations

import _thread
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

AGAIN_SECS = 0.02
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


def interruptible(work: Callable[[], int]) -> int:
    """What ``work()`` gives. Ctrl-C raises KeyboardInterrupt in it and SIGTERM Terminated, unless whoever started this,
    or whoever calls, has it otherwise; while a module is being imported, as soon as it is there: torch's C++ calls
    Python where an exception ends the process at once, with whatever is half done."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = {number: handler for number, handler in usual.items() if signal.getsignal(number) == handler}

    def end(number: int, frame: FrameType | None) -> None:
        if not _importing(frame):
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        again = threading.Timer(AGAIN_SECS, _thread.interrupt_main, (number,))
        again.daemon = True
        again.start()

    for number in ours:
        signal.signal(number, end)
    try:
        return work()
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported that the work asked for, and not one that asked for the work."""
    while frame is not None and frame.f_code is not interruptible.__code__:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
