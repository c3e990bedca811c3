"""What the reports beside two files measured, and why their numbers are not to be held against each other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from mobileprune.errors import ArtifactError
from mobileprune.files import read_regular
from mobileprune.inspection.view import View
from mobileprune.schemas import parse, problems

REPORT = "report.json"
LARGEST = 64 * 2**20
"""Bytes of a JSON document that is read."""
GROUPS = {"all": "", "canaries": "canary_"}


def document(path: Path, schema: str) -> dict[str, Any]:
    """A JSON file that keeps to its schema; ArtifactError says what is wrong with it."""
    try:
        if path.is_symlink():
            raise ArtifactError(f"{path.name} is a link")
        return _document(path, schema, path.stat().st_mtime_ns)
    except OSError as error:
        raise ArtifactError(f"{path.name}: {error.strerror}") from error


@lru_cache(maxsize=16)
def _document(path: Path, schema: str, changed: int) -> dict[str, Any]:
    try:
        value = parse(read_regular(path, LARGEST))
        wrong = problems(value, schema)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.name} is not JSON: {error}") from error
    if wrong:
        raise ArtifactError(f"{path.name} is not what this mobileprune writes: {'; '.join(wrong)}")
    return {name: part for name, part in value.items() if name != "schema"}


def report_of(view: View) -> dict[str, Any]:
    """The report beside the file; ArtifactError where there is none, or one of another file."""
    path = view.file.parent / REPORT
    if not path.exists():
        raise ArtifactError(f"no {REPORT} beside {view.file.name}: `mobileprune report` writes one")
    value = document(path, "report")
    if value["manifest"]["sha256"] != view.sha256:
        raise ArtifactError(f"the {REPORT} beside {view.file.name} is about another file: report again")
    return value


def measured(report: dict[str, Any]) -> dict[str, Any]:
    """Of the exported file alone; estimates as reports have them."""
    subject, bench = report["audit"]["subjects"]["artifact"], report["bench"]
    found = {
        "verdict": report["audit"]["verdict"]["overall"],
        "test_accuracy": subject["accuracy"].get("test"),
        "latency_p50_ms": bench["artifact"]["latency_ms"]["p50"],
    }
    for group, name in GROUPS.items():
        if best := subject["strongest"].get(group):
            found |= {f"{name}auc": best["auc"], f"{name}attack": " / ".join(dict.fromkeys(best["chosen"]))}
    return found


def caveats(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    """What sets two reports apart beside the files."""
    audits = a["audit"], b["audit"]
    if audits[0]["data"]["split_sha256"] != audits[1]["data"]["split_sha256"]:
        yield "accuracy and attacks are of other images"
    efforts = [{k: v for k, v in audit["effort"].items() if k != "jobs"} for audit in audits]
    if named := [key for key in efforts[0] if efforts[0][key] != efforts[1].get(key)]:
        each = (f"{key} {efforts[0][key]} and {efforts[1].get(key)}" for key in named)
        yield f"the attackers went differently far: {', '.join(each)}"
    benches = a["bench"], b["bench"]
    if any(benches[0][key] != benches[1][key] for key in ("machine", "num_threads")):
        yield "latency is of other machines, versions or numbers of threads"
    for side, bench in zip("AB", benches, strict=True):
        if not bench["valid"]:
            yield f"the latency of {side} is not valid: {bench['note']}"
