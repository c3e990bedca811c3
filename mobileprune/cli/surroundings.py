"""What the command line is started with and cannot choose: its streams, the signals that end it."""

from __future__ import annotations

import _thread
import io
import opcode
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
    or whoever calls, has it otherwise. Where an exception would end the process at once, with whatever is half done,
    they wait: torch's C++ calls Python while it is imported, and does not expect one. Where Python drops exceptions (in
    ``__del__``, around a fork) they come again."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = {number: handler for number, handler in usual.items() if signal.getsignal(number) == handler}
    kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}

    def end(number: int, frame: FrameType | None) -> None:
        if not _maybe_in_native_code(frame):
            raise kinds[signal.Signals(number)]
        again(signal.Signals(number))

    def again(number: signal.Signals) -> None:
        def now() -> None:
            if signal.getsignal(number) is end:  # the work goes on
                _interrupt(number)

        timer = threading.Timer(AGAIN_SECS, now)
        timer.daemon = True
        timer.start()

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if number := next((number for number in ours if what.exc_type is kinds[number]), None):
            again(number)
        else:
            hook(what)

    hook, sys.unraisablehook = sys.unraisablehook, dropped
    for number in ours:
        signal.signal(number, end)
    try:
        return work()
    finally:
        sys.unraisablehook = hook
        for number, handler in ours.items():
            signal.signal(number, handler)


def _interrupt(number: signal.Signals) -> None:
    """The main thread, from another one, also out of a call that waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


def _maybe_in_native_code(frame: FrameType | None) -> bool:
    """Whether a native module is being loaded, or a module of torch does something else than to import another: it may
    be in a function of ``torch._C`` that is at work on this very import. No other frame tells of what is not Python."""
    while frame is not None and frame.f_code is not interruptible.__code__:
        code, name = frame.f_code, str(frame.f_globals.get("__name__"))
        if code.co_qualname.startswith("ExtensionFileLoader."):
            return True
        of_torch = code.co_name == "<module>" and name.partition(".")[0] == "torch"
        if of_torch and code.co_code[frame.f_lasti] != opcode.opmap["IMPORT_NAME"]:
            return True
        frame = frame.f_back
    return False
