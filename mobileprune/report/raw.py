"""The document inside the page: as JSON for programs, and to read, with an anchor for every number that links to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from mobileprune.report.cells import fragment, pointer

LINE = 240
"""What is not longer, in characters, and holds no anchor stays on one line."""
MOST_NUMBERS = 24
"""A longer list is counted, not shown; the JSON for programs has it."""


class Raw:
    """``link`` hands out links into the document and remembers them; ``text``, which comes last, has their anchors."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._anchors: set[str] = set()
        self._above: set[str] = set()

    def link(self, source: str) -> str:
        """What an ``href`` takes to the value at the JSON pointer ``source``."""
        parts = source.split("/")
        self._anchors.add(source)
        self._above |= {"/".join(parts[:i]) for i in range(1, len(parts))}
        return "#" + fragment(source)

    def embedded(self) -> Markup:
        """For a ``<script type="application/json">``, which nothing inside can end."""
        text = json.dumps(self._document, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))

    def text(self) -> Markup:
        """Indented JSON, its lists of many numbers cut short."""
        return Markup("\n").join(self._lines(self._document, "", "", ""))

    def _lines(self, value: Any, name: str, path: str, indent: str) -> Iterator[Markup]:
        opening = f"{json.dumps(name)}: " if name else ""
        whole = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and len(value) > MOST_NUMBERS and not isinstance(value[0], dict | list | str):
            whole = f"[{len(value)} numbers]"
        if not isinstance(value, dict | list) or (path not in self._above and len(whole) <= LINE):
            yield self._anchored(f"{indent}{opening}{whole}", path)
            return
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        brackets = "{}" if isinstance(value, dict) else "[]"
        yield self._anchored(f"{indent}{opening}{brackets[0]}", path)
        for key, part in parts:
            yield from self._lines(part, key if isinstance(key, str) else "", path + pointer(key), indent + "  ")
        yield escape(indent + brackets[1])

    def _anchored(self, text: str, path: str) -> Markup:
        return Markup('<span id="{}">{}</span>').format(fragment(path), text) if path in self._anchors else escape(text)


def thinned(document: dict[str, Any]) -> dict[str, Any]:
    """Without the ROC curves that the page does not draw, which are most of it with many attacks, and without paths."""
    subjects = {}
    for name, subject in document["audit"]["subjects"].items():
        drawn = {group: found["attack"] for group, found in subject["distributions"].items()}
        measured = {
            group: {
                a: m if a == drawn.get(group) else m | {"roc": {"fpr": [], "tpr": []}} for a, m in by_attack.items()
            }
            for group, by_attack in subject["measurements"].items()
        }
        subjects[name] = subject | {"measurements": measured}
    named = {"artifact": Path(document["artifact"]).name, "report": {}}
    return document | named | {"audit": document["audit"] | {"subjects": subjects}}
