"""A Markdown renderer shows what was given: no name is obeyed, numbers stay readable in the source."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from mobileprune.report.markdown import framed, line, table

HOSTILE = [
    "<script>alert(1)</script> &amp; <!--",
    "*bold* **bold** _it_ __it__ a_b_ _a_b *",
    "~~gone~~ `code` ``",
    "[a](http://b) ![a](http://b) [a][b] [a]: http://b [^1] [ ] [x] done",
    "[1, 2](http://b)",
    "[0.5]: http://b",
    "[1, 2][3, 4]",
    "a | b || \\| \\\\| ends in \\",
    "# head",
    "-",
    "- item",
    "+ item",
    "---",
    "===",
    "1. item",
    "12) item",
    "> quoted",
    "~~~",
    "```",
    "\\*a\\*",
    "é_é_ 数_数 -_-",
]


def rendered(text: str) -> list[str]:
    """Of every paragraph, cell and list item, what is read; AssertionError for anything that is more than text."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = []
    blocks = {"paragraph", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item", "inline"}
    tokens = parser.parse(text)
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} <= blocks
    for token in tokens:
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, text
            found.append("".join(child.content for child in token.children or []))
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_as_it_is(name: str) -> None:
    assert rendered(line(name)) == [name]
    assert rendered(f"- {line(name)}\n- {line(name)}") == [name, name]
    assert rendered("\n".join(table([("a", name), (name, "b")]))) == ["a", name, name, "b"]


def test_a_name_stays_on_its_line() -> None:
    assert rendered("- " + line("a\n\n# b")) == ["a # b"]
    assert rendered("\n".join(table([("head",), ("a\n| b |",)]))) == ["head", "a | b |"]


def test_what_people_read_stays_readable_in_the_source() -> None:
    for words in (
        "0.512 [0.480, 0.544]",
        "90.7% [86.8%, 93.7%]",
        "-0.01 [-0.02, 0.01]",
        "1.50x [1.42x, 1.57x]",
        "prune_epochs 20",
        "-",
    ):
        assert table([("a",), (words,)])[2] == f"| {words} |"
    assert line("-0.01 or 90.7% of 1,000 images") == "-0.01 or 90.7% of 1,000 images"


def test_a_table_of_markdown_is_left_alone() -> None:
    assert framed([("", "b"), ("**x**", "c")]) == ["|  | b |", "| --- | --- |", "| **x** | c |"]
