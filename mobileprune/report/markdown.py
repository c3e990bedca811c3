"""Rows and sentences as Markdown that shows them as they are, whatever the names of models, classes and files are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

AS_IT_IS = r"\[-?\d[\d.,%x -]*\](?![(\[:])|(?<=[^\W_])_(?=[^\W_])"
"""An interval that no link follows, and what stands inside a word: Markdown obeys neither, people read both."""
OBEYED = re.compile(rf"{AS_IT_IS}|([\\`*_\[\]|#~])")
FIRST = re.compile(r"^(?:[-+](?=[\s-]|$)|\d+(?=[.)](?:\s|$)))")
"""What makes a list or a rule of the line that it begins."""


def text(words: str) -> str:
    """On one line, for a cell or inside a line."""
    return OBEYED.sub(lambda found: "\\" * bool(found[1]) + found[0], escape(" ".join(words.split()), quote=False))


def line(words: str) -> str:
    """A line of its own, or all of a list's item."""
    return FIRST.sub(lambda found: found[0] + "\\" if found[0].isdigit() else "\\" + found[0], text(words))


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; the first of ``rows`` holds the headings."""
    return framed([text(cell) for cell in row] for row in rows)


def framed(rows: Iterable[Sequence[str]]) -> list[str]:
    """As :func:`table`, of cells that are Markdown."""
    head, *body = rows
    first, *others = ("| " + " | ".join(row) + " |" for row in (head, *body))
    return [first, "|" + " --- |" * len(head), *others]
