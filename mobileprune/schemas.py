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


LARGEST = 2**63
"""Of whole numbers: what is larger, no program of another language reads, and it is too large for a float."""


def parse(text: bytes) -> Any:
    """JSON of numbers and text that everyone reads, not only Python: no NaN, no infinity, no half of a surrogate pair.

    ValueError says what is wrong.
    """
    decoded = text.decode("utf-8-sig")
    value = json.loads(decoded, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    if "\\u" in decoded:
        _check_text(value)
    return value


def _check_text(value: Any) -> None:
    """It is by escapes only that half a pair gets in, past which nothing could be printed or written."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!a} is half of a surrogate pair, not text") from error


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) > LARGEST:
        raise ValueError(f"{text[:20]}... is too large for a whole number")
    return number


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
