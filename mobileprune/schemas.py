"""The JSON that mobileprune writes and reads, as one JSON Schema (2020-12) document: ``schemas.json`` beside this file.

Each command's ``--json`` document is ``#/$defs/<verb>``; an artifact's ``manifest.json`` is ``#/$defs/manifest``
and is checked against it before any of it is used.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(files("mobileprune").joinpath("schemas.json").read_text("utf-8"))
    return value


def parse(text: bytes) -> Any:
    """JSON without NaN and infinity, which are not JSON but which Python would read; ValueError says what is wrong."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def problems(value: Any, name: str, limit: int = 5) -> list[str]:
    """What of the JSON ``value`` breaks ``#/$defs/<name>``, at most ``limit`` lines; empty when it is valid."""
    from jsonschema import Draft202012Validator

    schema = {"$ref": f"#/$defs/{name}", "$defs": document()["$defs"]}
    found = []
    for error in Draft202012Validator(schema).iter_errors(value):
        where = "/".join(str(part) for part in error.absolute_path)
        found.append(f"{where or 'the document'}: {error.message[:120]}")
        if len(found) == limit:
            break
    return found
