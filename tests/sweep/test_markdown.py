"""The Markdown of a sweep: its names and errors are text."""

from __future__ import annotations

from support.sweeps import document

from mobileprune.sweep.markdown import markdown

EVIL = "<b>|*c* [d](http://e)\n# `f` \\"
SAFE = "&lt;b&gt;\\|\\*c\\* \\[d\\](http://e) \\# \\`f\\` \\\\"


def test_hostile_names_are_text() -> None:
    value = document()
    value["cases"][0]["options"]["method"] = value["name"] = EVIL
    value["failed"] = [{"options": {"model": EVIL}, "error": EVIL}]
    text = markdown(value)
    assert text.startswith(f"# Sweep {SAFE}\n")
    assert f"| {SAFE} |" in text
    assert f"- failed: model {SAFE}: {SAFE}" in text
    assert "<b>" not in text
