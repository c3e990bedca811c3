"""How every verb hands over its result."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobileprune.files import write_json


def finish(args: argparse.Namespace, value: dict[str, Any], table: Callable[[], None]) -> None:
    """The table to stdout, unless stdout is for JSON."""
    document = {"schema": f"mobileprune.{args.verb}/1", **value}
    with shown():
        if args.json == "-":
            print(json.dumps(document, indent=2, allow_nan=False))
        else:
            table()
    if args.json and args.json != "-":
        write_json(Path(args.json), document)


@contextmanager
def shown() -> Iterator[None]:
    """What is printed within has left when this ends; OSError where stdout cannot be written. A reader who has seen
    enough (``| head``) changes nothing else: the work goes on, and its exit code is what it would have been."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails once more at its end
        if not isinstance(error, BrokenPipeError):
            raise
