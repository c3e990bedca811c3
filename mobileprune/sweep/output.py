"""The folder that a sweep writes: ``sweep.json``, ``sweep.md``, ``pareto.csv`` and the chosen ``artifact``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from mobileprune.artifact import Artifact, write_artifact
from mobileprune.atomic import is_free
from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.files import read_regular, write_json, write_text
from mobileprune.schemas import parse
from mobileprune.sweep.markdown import markdown
from mobileprune.sweep.plan import Plan

DOCUMENT, TEXT, TABLE, ARTIFACT = "sweep.json", "sweep.md", "pareto.csv", "artifact"
MAX_BYTES = 64 * 2**20
SAME = ("base", "grid")

Values = dict[str, Any]


def check(folder: Path, plan: Plan, *, force: bool) -> None:
    """UsageError unless the folder is free, or holds a sweep of the same plan, or of any other with ``force``."""
    if is_free(folder):
        return
    try:
        there = parse(read_regular(folder / DOCUMENT, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        there = None
    if not isinstance(there, dict) or "grid" not in there:
        raise UsageError(f"{folder} exists and is not the output of a sweep; choose another -o")
    wanted = plan.to_dict()
    if not force and any(there.get(name) != wanted[name] for name in SAME):
        raise UsageError(f"{folder} holds another sweep; choose another -o or give --force to replace it")


def write(folder: Path, value: Values) -> None:
    write_json(folder / DOCUMENT, value)
    write_text(folder / TEXT, markdown(value))
    write_text(folder / TABLE, table(value))


def write_chosen(folder: Path, artifact: Artifact) -> Artifact:
    """Copied to ``artifact``, in the place of one that was chosen before."""
    try:
        if Artifact.load(folder / ARTIFACT).manifest == artifact.manifest:
            return Artifact.load(folder / ARTIFACT)
    except MobilepruneError:
        pass  # none there yet
    return write_artifact(folder / ARTIFACT, artifact.model_path, artifact.manifest, force=True)


def table(value: Values) -> str:
    """One line a case: its options, the means over its seeds, and its rank (0: on the Pareto front)."""
    cases = value["cases"]
    options = list(dict.fromkeys(name for case in cases for name in case["options"]))
    means = list(dict.fromkeys(name for case in cases for name in case["means"]))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["case", *options, "seeds", *means, "rank"])
    for case in cases:
        found = [case["means"][name]["mean"] if name in case["means"] else "" for name in means]
        shown = [case["options"].get(name, "") for name in options]
        rows.writerow([case["id"], *shown, len(case["points"]), *found, case["rank"]])
    return text.getvalue()
