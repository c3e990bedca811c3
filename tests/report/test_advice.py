"""The advice on an inconclusive answer: numbers that are those of the data, and options that exist."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mobileprune.cli.parser import parser
from mobileprune.report.advice import about, advice
from mobileprune.report.render import card, html, markdown

DATA: dict[str, Any] = {
    "membership": "drawn",
    "counts": {
        "members": 600,
        "held_out": 600,
        "canary_members": 60,
        "canary_held_out": 60,
        "reference": 300,
        "test": 297,
    },
}


def said(group: str, times: float | None, **data: Any) -> str:
    return advice({"more": {"group": group, "times": times}}, {**DATA, **data})


@pytest.mark.parametrize(
    ("group", "times", "words"),
    [
        ("all", 1.4, "About 840 members and 840 non-members would decide it, were the estimate to stay where it is "),
        ("all", 1.4, "(now 600 and 600): export anew with --members 840."),
        ("all", 4.0, "export anew with --members 2400, which takes 4,802 images."),
        ("canaries", 1.5, "About 90 canaries among the members and 90 among the non-members would decide it"),
        ("canaries", 1.5, "(now 60 and 60): export anew with --canaries 0.15."),
        ("canaries", 6.0, "export anew with --canaries 0.5 --members 720."),
        ("canaries", 50, "export anew with --canaries 0.5 --members 6000, which takes 12,002 images."),
        ("all", None, "No number of examples would decide it: the estimate lies at the limit"),
    ],
)
def test_the_advice_names_numbers_and_options(group: str, times: float | None, words: str) -> None:
    text = said(group, times)
    assert words in text
    assert text.count(". ") == 0, "one sentence"
    if flags := re.search(r"with (--[^,]*?)[,.]?$|with (--.*?),", text):
        parser().parse_args(["export", *(flags[1] or flags[2]).rstrip(".").split()])


def test_data_that_state_membership_are_asked_for_more_of_it() -> None:
    assert said("all", 2, membership="stated").endswith("(now 600 and 600): take data that state more of both.")


def test_what_is_decided_or_lacks_something_else_gets_no_advice() -> None:
    assert advice({"more": None}, DATA) == ""


def test_numbers_are_rounded_up_to_two_digits() -> None:
    assert [about(n) for n in (0.5, 1, 9.2, 99.1, 101, 2312.4)] == [1, 1, 10, 100, 110, 2400]


def test_every_page_gives_the_advice(artifacts) -> None:
    value = json.loads((artifacts["onnx"] / "report.json").read_text())
    finding = value["audit"]["verdict"]["findings"][1]
    finding |= {"verdict": "inconclusive", "sentence": "It is open.", "more": {"group": "all", "times": 2.0}}
    value["audit"]["verdict"]["overall"] = "inconclusive"
    text = advice(finding, value["audit"]["data"])
    assert text
    assert all(text in page(value) for page in (html, card, markdown))
