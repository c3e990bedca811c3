"""Independent work in several processes, none of which outlives the one that asked for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import TypeVar

from mobileprune.errors import MobilepruneError

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, heard: Callable[[Task, Result], None]
) -> None:
    """``heard(task, work(task))`` of every task, in the order in which ``jobs`` fresh processes finish them.

    ``work`` is a function of a module, and tasks and results can be pickled. What a worker raises is raised here; then,
    or when this process is interrupted or killed, the workers stop at once. As with any fresh process, a script that
    ends here needs its ``if __name__ == "__main__"``. MobilepruneError when a worker dies.
    """
    fresh = get_context("spawn")  # a fork of a process with threads, such as torch's and ONNX Runtime's, can hang
    ours, theirs = fresh.Pipe()
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), fresh, _stop_with, (theirs,))
    try:
        running = {pool.submit(work, task): task for task in tasks}
        for done in as_completed(running):
            heard(running[done], done.result())
        pool.shutdown()
    except BrokenProcessPool as error:
        raise MobilepruneError(
            "a worker process died, perhaps for lack of memory; give fewer --jobs: what is finished is kept"
        ) from error
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _stop_with(caller: Connection) -> None:
    """End this worker when the other end of the pipe closes, which it does however the caller ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the caller answers it

    def watch() -> None:
        with suppress(EOFError, OSError):
            caller.recv_bytes()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
