"""The tree of errors is whole, and what others said, as messages quote it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mobileprune import errors
from mobileprune.errors import MAX_QUOTED, MobilepruneError, last_line, one_line

PACKAGE = Path(errors.__file__).parent


def test_every_error_of_the_user_is_in_the_tree() -> None:
    """Named in its docstring with the exit code, and defined there."""
    found = {n: e for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, MobilepruneError)}
    for name, error in found.items():
        (line,) = [line for line in (errors.__doc__ or "").splitlines() if line.strip("│├└─ ").startswith(f"{name} ")]
        assert line.strip("│├└─ ").split()[1] == str(error.exit_code), line
    for path in PACKAGE.rglob("*.py"):
        classes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef)]
        bases = {ast.unparse(base).rpartition(".")[2] for node in classes for base in node.bases}
        assert path.name == "errors.py" or bases.isdisjoint(found), path


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
