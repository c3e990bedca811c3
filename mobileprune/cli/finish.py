"""How every verb hands over its result."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobileprune.files import write_json


def finish(args: argparse.Namespace, value: dict[str, Any], table: Callable[[], None]) -> None:
    """The table to stdout, unless stdout is for JSON."""
    if args.json != "-":
        table()
    if args.json:
        document = {"schema": f"mobileprune.{args.verb}/1", **value}
        if args.json == "-":
            print(json.dumps(document, indent=2, allow_nan=False))
        else:
            write_json(Path(args.json), document)
