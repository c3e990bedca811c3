"""An audit as JUnit XML, which CI systems show: one test case a finding, one a gate.

What fails is a ``<failure>``. What is inconclusive is an ``<error>``, as a test is that could not be run to its end: CI
systems show it in red under a name of its own, as its exit code (4) asks for; a skipped test they show as harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

ELEMENTS = {"pass": "system-out", "fail": "failure", "inconclusive": "error"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(audit: Mapping[str, Any], name: str) -> str:
    """``audit``: the JSON value of an audit, with ``verdict`` and ``gates``; ``name`` of what was audited."""
    cases = list(_cases(audit))
    outcomes = [outcome for *_, outcome, _ in cases]
    counts = {"failures": outcomes.count("fail"), "errors": outcomes.count("inconclusive"), "skipped": 0}
    suite = ElementTree.Element("testsuite", name=_xml(f"mobileprune {name}"), tests=str(len(cases)))
    suite.attrib.update({what: str(count) for what, count in counts.items()})
    for group, what, outcome, sentence in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"mobileprune.{group}", name=what)
        said = ElementTree.SubElement(case, ELEMENTS[outcome])
        said.text = _xml(sentence)
        if outcome != "pass":
            said.attrib.update(type=outcome, message=_xml(sentence))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def _cases(audit: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Group, name, outcome, sentence."""
    for finding in audit["verdict"]["findings"]:
        yield "leakage", finding["question"], finding["verdict"], finding["sentence"]
    for gate in audit["gates"]:
        section, _, name = gate["name"].partition(".")
        yield section, name, gate["outcome"], gate["sentence"]


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return _NOT_XML.sub("?", text)
