"""Where a benchmark's result goes: ``results/<date>-<machine>-<versions>-<name>.json``, environment inside."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mobileprune.bench import machine
from mobileprune.files import write_json

RESULTS = Path(__file__).parent / "results"


def kept(work: Path | None, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``make`` gives, kept in the folder ``work`` so that a benchmark that was stopped goes on from there."""
    path = work and work / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
    if path and path.is_file():
        return dict(json.loads(path.read_text("utf-8")))
    value = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    return value


def record(name: str, value: dict[str, Any]) -> Path:
    """Write ``value`` with date and machine; returns the file."""
    facts, now = machine(), datetime.now(UTC)
    cpu = re.sub(r"[^a-z0-9]+", "-", f"{facts['cpu']} {facts['simd']}".lower()).strip("-")
    versions = f"torch{facts['torch']}-ort{facts['onnxruntime']}"
    path = RESULTS / f"{now:%Y-%m-%d}-{cpu}-{facts['cores']}c-{versions}-{name}.json"
    write_json(path, {"benchmark": name, "date": f"{now:%Y-%m-%dT%H:%M:%SZ}", "machine": facts, **value})
    return path
