"""The report of one artifact in four forms: a self-contained HTML file, a one-page privacy card, Markdown and JSON; and
the page of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobileprune.files import write_json, write_text


def write_report(value: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write ``report.html``, ``report.md``, ``report.json`` and ``card.html`` from the JSON value of a ReportResult."""
    from mobileprune.report.render import card, html, markdown

    paths = {kind: folder / f"report.{kind}" for kind in ("html", "md", "json")} | {"card": folder / "card.html"}
    write_text(paths["html"], html(value))
    write_text(paths["card"], card(value))
    write_text(paths["md"], markdown(value))
    write_json(paths["json"], {"schema": "mobileprune.report/1", **value})
    return paths


def write_sweep_report(value: dict[str, Any], folder: Path) -> Path:
    """Write ``sweep.html`` from the JSON value of a sweep."""
    from mobileprune.report.sweep import sweep_html

    path = folder / "sweep.html"
    write_text(path, sweep_html(value))
    return path
