"""The report of one artifact in three forms: one self-contained HTML file, Markdown and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobileprune.files import write_json, write_text


def write_report(value: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write ``report.html``, ``report.md`` and ``report.json`` from the JSON value of a ReportResult."""
    from mobileprune.report.render import html, markdown

    paths = {kind: folder / f"report.{kind}" for kind in ("html", "md", "json")}
    write_text(paths["html"], html(value))
    write_text(paths["md"], markdown(value))
    write_json(paths["json"], {"schema": "mobileprune.report/1", **value})
    return paths
