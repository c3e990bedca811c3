"""What others said, as messages quote it."""

from __future__ import annotations

import pytest

from mobileprune.errors import MAX_QUOTED, last_line, one_line


def test_an_error_is_quoted_as_one_line() -> None:
    error = ValueError("first\n   second\tthird ")
    assert one_line(error) == "first second third"
    assert one_line(error, kind=True) == "ValueError: first second third"
    assert one_line(ValueError("x" * 1000)) == "x" * MAX_QUOTED


@pytest.mark.parametrize(
    ("text", "last"),
    [("", ""), (" \n\n", ""), ("one", "one"), ("progress\r\n error:  it\tbroke \n \n", "error: it broke")],
)
def test_the_last_line_that_says_something(text, last) -> None:
    assert last_line(text) == last
