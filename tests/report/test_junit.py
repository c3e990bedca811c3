"""JUnit XML: what a CI system counts, and that no text can break it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.report.junit import junit

AUDIT: dict[str, Any] = {
    "verdict": {
        "findings": [
            {"question": "ceiling", "verdict": "pass", "sentence": "Below."},
            {"question": "canary_ceiling", "verdict": "inconclusive", "sentence": "May lie & <either> side."},
        ]
    },
    "gates": [
        {"name": "size.max_bytes", "limit": 1, "value": 2, "outcome": "fail", "sentence": "File size is 2."},
        {"name": "latency.min_speedup", "limit": 1, "value": None, "outcome": "inconclusive", "sentence": "Busy."},
    ],
}


def test_findings_and_gates_are_test_cases() -> None:
    suite = ElementTree.fromstring(junit(AUDIT, "out"))
    assert suite.tag == "testsuite"
    assert suite.attrib == {"name": "mobileprune out", "tests": "4", "failures": "1", "errors": "2", "skipped": "0"}
    cases = {f"{case.get('classname')}.{case.get('name')}": case for case in suite}
    assert list(cases) == [
        "mobileprune.leakage.ceiling",
        "mobileprune.leakage.canary_ceiling",
        "mobileprune.size.max_bytes",
        "mobileprune.latency.min_speedup",
    ]
    assert [[(part.tag, part.get("message")) for part in case] for case in cases.values()] == [
        [("system-out", None)],
        [("error", "May lie & <either> side.")],
        [("failure", "File size is 2.")],
        [("error", "Busy.")],
    ]
    assert [case[0].text for case in cases.values()] == [
        "Below.",
        "May lie & <either> side.",
        "File size is 2.",
        "Busy.",
    ]


@settings(max_examples=100)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_gives_valid_xml(text: str) -> None:
    audit = {**AUDIT, "gates": [{**AUDIT["gates"][0], "sentence": text}]}
    suite = ElementTree.fromstring(junit(audit, text).encode())
    assert len(suite) == 3


@pytest.mark.parametrize("text", ["\x00\x1b[2J", "\ud800", "\ufffe", "]]>", '"><failure/>'])
def test_what_xml_cannot_say_is_left_out(text: str) -> None:
    audit = {**AUDIT, "gates": [{**AUDIT["gates"][0], "sentence": text}]}
    written = junit(audit, text).encode()
    assert int(ElementTree.fromstring(written).attrib["failures"]) == len(
        list(ElementTree.fromstring(written).iter("failure"))
    )
