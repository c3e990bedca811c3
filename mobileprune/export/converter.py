"""Converters of other projects run in a process of their own: they print, start threads and may crash."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from mobileprune.errors import MobilepruneError, TargetUnavailableError, last_line


def require(extra: str, *modules: str) -> None:
    """TargetUnavailableError unless all ``modules`` of the optional ``extra`` are installed; imports none of them."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise TargetUnavailableError(
            f"target {extra} needs {', '.join(missing)}, which is not installed: pip install 'mobileprune[{extra}]'"
        )


def run(converter: str, code: str, *arguments: str) -> str:
    """Python ``code`` in a fresh process, with ``arguments`` as ``sys.argv[1:]`` -> what it printed to stdout.

    -P keeps modules of the working directory out. MobilepruneError with its last words when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise MobilepruneError(f"{converter} cannot convert this model: {last_words(done.stderr or done.stdout)}")
    return done.stdout


def last_words(text: str) -> str:
    return last_line(text) or "it crashed without a word"
