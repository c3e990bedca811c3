"""Tasks in this process, or in several fresh ones, none of which outlives the one that asked for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from mobileprune.engines.graph import Pool


@contextmanager
def pool(jobs: int, num_threads: int, address: str | None = None) -> Iterator[Pool]:
    """``jobs`` workers; one is this process itself. When the block ends, or this process is interrupted or killed, the
    workers stop at once. As with any fresh process, a script that ends here needs its ``if __name__ == "__main__"``."""
    if jobs == 1:
        yield _Here()
        return
    workers = _Processes(jobs)
    try:
        yield workers
        workers.finish()
    finally:
        workers.stop()


class _Here:
    size = slots = 1
    lost: tuple[type[BaseException], ...] = ()

    def submit(self, work: Callable[[Any], Any], argument: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(argument))
        except Exception as error:
            future.set_exception(error)
        return future


class _Processes:
    lost: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, jobs: int) -> None:
        self.size = self.slots = jobs
        self._fresh = get_context("spawn")  # a fork of a process with threads, such as ONNX Runtime's, can hang
        self._start()

    def _start(self) -> None:
        self._ours, self._theirs = self._fresh.Pipe()
        self._pool = ProcessPoolExecutor(self.slots, self._fresh, _stop_with, (self._theirs,))

    def submit(self, work: Callable[[Any], Any], argument: Any) -> Future[Any]:
        try:
            return self._pool.submit(work, argument)
        except BrokenProcessPool:  # the executor gives up all of its workers when one dies
            self.stop()
            self._start()
            return self._pool.submit(work, argument)

    def finish(self) -> None:
        """Let the workers end by themselves, once they have nothing to do."""
        self._pool.shutdown()

    def stop(self) -> None:
        """End them whatever they are at."""
        self._ours.close()
        self._pool.shutdown(cancel_futures=True)
        self._theirs.close()


def _stop_with(caller: Connection) -> None:
    """End this worker when the other end of the pipe closes, which it does however the caller ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the caller answers it

    def watch() -> None:
        with suppress(EOFError, OSError):
            caller.recv_bytes()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
