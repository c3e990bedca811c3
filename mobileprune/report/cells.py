"""Text that remembers where in the document its number stands."""

from __future__ import annotations

from urllib.parse import quote


class Cell(str):
    """Text of a table or sentence; ``source``: the JSON pointer (RFC 6901) of what it was written from."""

    source: str

    def __new__(cls, text: str, source: str) -> Cell:
        made = super().__new__(cls, text)
        made.source = source
        return made


def at(text: str, *path: str | int) -> Cell:
    """``text``, written from the value that the keys and indices of ``path`` lead to."""
    return Cell(text, pointer(*path))


def pointer(*path: str | int) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def fragment(source: str) -> str:
    """The pointer as the id of an element and the target of a link; ids hold no spaces."""
    return quote(source, safe="/~")
