"""Read a FlatBuffer by field numbers, without code generated from its schema.

A file may be hostile: :class:`MalformedError` is all that it can raise, and no walk visits more than ``MAX_VISITS``
tables, however often the file refers to the same one, or decodes a text of more than ``MAX_TEXT_BYTES``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_VISITS = 1_000_000
MAX_TEXT_BYTES = 256
"""Texts that are asked for are names of operators and versions; a million tables may share one."""


class MalformedError(ValueError):
    pass


def root(content: bytes) -> Table:
    return Table(content, _follow(content, 0), iter(range(MAX_VISITS)))


class Table:
    """Fields by their number in the schema, counted from 0 (a union takes two); what is absent is None, "" or 0."""

    def __init__(self, content: bytes, position: int, visits: Iterator[int]) -> None:
        if next(visits, None) is None:
            raise MalformedError(f"more than {MAX_VISITS:,} tables")
        self.position = position
        self.vtable = position - _get("i", content, position)
        self._content, self._visits = content, visits

    def table(self, number: int) -> Table | None:
        at = self._at(number)
        return Table(self._content, _follow(self._content, at), self._visits) if at else None

    def tables(self, number: int) -> Iterator[Table]:
        at = self._at(number)
        if at:
            start = _follow(self._content, at)
            for index in range(_get("I", self._content, start)):
                yield Table(self._content, _follow(self._content, start + 4 + 4 * index), self._visits)

    def text(self, number: int) -> str:
        at = self._at(number)
        if not at:
            return ""
        start = _follow(self._content, at)
        size = _get("I", self._content, start)
        if size > MAX_TEXT_BYTES:
            raise MalformedError(f"a name of {size:,} bytes, more than {MAX_TEXT_BYTES}")
        return self._content[start + 4 : start + 4 + size].decode(errors="replace")

    def integer(self, number: int, kind: str = "i") -> int:
        """``kind`` as in :mod:`struct`."""
        at = self._at(number)
        return _get(kind, self._content, at) if at else 0

    def _at(self, number: int) -> int:
        """Where the field lies, 0 if the table has none."""
        if 4 + 2 * number >= _get("H", self._content, self.vtable):
            return 0
        offset = _get("H", self._content, self.vtable + 4 + 2 * number)
        return self.position + offset if offset else 0


def _follow(content: bytes, at: int) -> int:
    return at + _get("I", content, at)


def _get(kind: str, content: bytes, at: int) -> int:
    try:
        return int(struct.unpack_from(f"<{kind}", content, max(at, 0))[0])
    except struct.error as error:
        raise MalformedError("an offset points behind the end") from error
