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

POWER: dict[str, Any] = {"all": {"smallest_auc": 0.554}, "canaries": {"smallest_auc": 0.671}}


def said(group: str, times: float | None, **data: Any) -> str:
    question = "ceiling" if group == "all" else "canary_ceiling"
    finding = {"question": question, "limit": 0.6, "more": {"group": group, "times": times}}
    return advice(finding, {**DATA, **data}, POWER)


@pytest.mark.parametrize(
    ("group", "times", "words"),
    [
        ("all", 1.4, "About 840 members and 840 non-members would decide it, were the estimate to stay where it is "),
        ("all", 1.4, "(now 600 and 600): export anew with --members 840."),
        ("all", 4.0, "export anew with --members 2400, which takes 4,802 images (the data have 1,797 distinct ones)."),
        ("canaries", 1.5, "About 90 canaries among the members and 90 among the non-members would decide it"),
        ("canaries", 1.5, "(now 60 and 60): export anew with --canaries 0.15."),
        ("canaries", 6.0, "export anew with --canaries 0.5 --members 720."),
        (
            "canaries",
            50,
            "--canaries 0.5 --members 6000, which takes 12,002 images (the data have 1,797 distinct ones).",
        ),
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


def test_data_of_which_some_were_left_are_not_counted() -> None:
    """Of a large data set at most so many are test images."""
    counts = DATA["counts"] | {"test": 10_000}
    assert said("all", 40.0, counts=counts).endswith("with --members 24000, which takes 48,002 images.")


@pytest.mark.parametrize(
    ("group", "power", "data", "words"),
    [
        ("canaries", 0.671, {}, "AUC 0.671, is above the limit 0.600; export anew with more --members or --canaries."),
        ("all", 0.83, {}, "AUC 0.830, is above the limit 0.600; export anew with more --members."),
        ("all", 0.83, {"membership": "stated"}, "above the limit 0.600; take data that state more of both."),
        (
            "all",
            None,
            {},
            "The sample is too small: no leak could have been shown in it; export anew with more --members.",
        ),
        ("all", 0.59, {}, "No number of examples would decide it: the estimate lies at the limit"),
    ],
)
def test_a_sample_that_shows_no_leak_at_the_limit_is_called_too_small(
    monkeypatch: pytest.MonkeyPatch, group: str, power: float | None, data: dict[str, Any], words: str
) -> None:
    monkeypatch.setitem(POWER, group, {"smallest_auc": power})
    assert words in said(group, None, **data)


def test_more_examples_are_no_matter_of_what_a_difference_could_show() -> None:
    finding = {"question": "deployment", "limit": 0.02, "more": {"group": "all", "times": None}}
    assert advice(finding, DATA, POWER).startswith("No number of examples would decide it")


def test_what_is_decided_or_lacks_something_else_gets_no_advice() -> None:
    assert advice({"more": None}, DATA, POWER) == ""


def test_numbers_are_rounded_up_to_two_digits() -> None:
    assert [about(n) for n in (0.5, 1, 9.2, 99.1, 101, 2312.4)] == [1, 1, 10, 100, 110, 2400]


def test_every_page_gives_the_advice(artifacts) -> None:
    value = json.loads((artifacts["onnx"] / "report.json").read_text())
    finding = value["audit"]["verdict"]["findings"][1]
    finding |= {"verdict": "inconclusive", "sentence": "It is open.", "more": {"group": "all", "times": 2.0}}
    value["audit"]["verdict"]["overall"] = "inconclusive"
    text = advice(finding, value["audit"]["data"], value["audit"]["verdict"]["power"])
    assert text
    assert all(text in page(value) for page in (html, card, markdown))
