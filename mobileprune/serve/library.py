"""What lies below the folders: artifacts, sweeps, finished steps of run stores, and steps that are under way."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mobileprune.artifact import MANIFEST, Manifest, parse_manifest
from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.inspection.reported import REPORT, document
from mobileprune.runs import RECORD
from mobileprune.sweep.output import DOCUMENT

DEPTH = 5
"""How far below a folder is looked; a run store's artifacts lie three deep."""
MOST = 20_000
"""Folders that one look goes through."""
PARTIAL = "partial"
RECENT_SECS = 600
"""A step whose partial result was last touched longer ago is taken for one that was killed."""


@dataclass(frozen=True)
class Item:
    """``name``: where it lies, for people; ``key``: what addresses call it."""

    kind: str
    path: Path
    name: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.kind}\0{self.path}".encode(errors="surrogateescape")).hexdigest()[:20]

    @property
    def changed(self) -> float:
        """Seconds since the epoch; of a step under way, of the newest file in it."""
        try:
            if self.kind == "running":
                return max(
                    (entry.stat().st_mtime for entry in os.scandir(self.path)), default=self.path.stat().st_mtime
                )
            return self.path.stat().st_mtime
        except OSError:  # finished or removed meanwhile
            return 0.0


def look_through(folders: Sequence[Path]) -> dict[str, Item]:
    """Key -> item, in the order of the folders and of names. No symbolic link is followed."""
    found: dict[str, Item] = {}
    for folder in folders:
        root = folder.resolve()
        for item in _below(root, root.name):
            found.setdefault(item.key, item)
    return found


def _below(root: Path, name: str) -> Iterator[Item]:
    for seen, (here, folders, files) in enumerate(os.walk(root)):
        path = Path(here)
        inside = path.relative_to(root)
        if seen == MOST:
            return
        # A name that is not UTF-8 cannot be sent: it shows question marks.
        shown = "/".join([name, *inside.parts]).encode("utf-8", "replace").decode()
        if len(inside.parts) > 1 and inside.parts[-2] == PARTIAL:
            yield Item("running", path, path.name)
            folders.clear()
            continue
        # What starts with a dot is a temporary name of somebody who is writing.
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if len(inside.parts) < DEPTH else []
        for file, kind in ((MANIFEST, "artifact"), (DOCUMENT, "sweep"), (RECORD, "step")):
            if file in files and not (path / file).is_symlink():
                yield Item(kind, path, shown)


def manifest_of(item: Item) -> Manifest | None:
    """None where it is no artifact of ours, or a damaged one."""
    try:
        return _manifest(item.path / MANIFEST, (item.path / MANIFEST).stat().st_mtime_ns)
    except (OSError, MobilepruneError):
        return None


@lru_cache(maxsize=1024)
def _manifest(path: Path, changed: int) -> Manifest:
    return parse_manifest(path)


def verdict_of(item: Item) -> str:
    """Of the artifact's report, if it is there, whole and about this very file."""
    path, manifest = item.path / REPORT, manifest_of(item)
    if not path.is_file() or manifest is None:
        return "-"
    try:
        value = document(path, "report")
    except ArtifactError:
        return "-"
    verdict: str = value["audit"]["verdict"]["overall"]
    return verdict if value["manifest"]["sha256"] == manifest.sha256 else "-"


def ago(seconds: float) -> str:
    """How long ago that was."""
    passed = max(0, int(time.time() - seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed >= length:
            return f"{passed // length} {unit} ago"
    return f"{passed} s ago"
