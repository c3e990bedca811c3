"""What should not be in an artifact, or in a model file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mobileprune.artifact import MANIFEST, Artifact
from mobileprune.export.lint import findings_of
from mobileprune.inspection.reported import REPORT

REPORT_FILES = ("report.html", "report.md", REPORT, "card.html")
"""Files that may lie beside an artifact's own."""


def findings_in(path: Path) -> list[dict[str, str]]:
    """Of every file of an artifact and of files that do not belong to it, or of one file."""
    known: dict[str, tuple[int, int, int] | None] = {path.name: None}
    found: list[dict[str, str]] = []
    if path.is_dir():
        artifact = Artifact.load(path)
        known = {artifact.manifest.file: artifact.manifest.input_shape, MANIFEST: None}
        stray = sorted(x.name for x in path.iterdir() if x.name not in {*known, *REPORT_FILES})
        found = [{"file": name, "rule": "stray", "where": "", "what": "file beside the artifact"} for name in stray]
    for name, shape in known.items():
        file = path / name if path.is_dir() else path
        found += [{"file": name, **asdict(each)} for each in findings_of(file, shape)]
    return found
