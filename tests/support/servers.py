"""`mobileprune serve` in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@contextmanager
def started() -> Iterator[Start]:
    """``start(folder, ...)``: the process and the first line of its output, its address; all ended at the end."""
    processes: list[subprocess.Popen[str]] = []

    def start(*argv: object) -> tuple[subprocess.Popen[str], str]:
        line = [sys.executable, "-m", "mobileprune", "serve", *map(str, argv), "--port", "0"]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline()

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
