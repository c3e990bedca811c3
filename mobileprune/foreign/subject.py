"""What was found out by asking a foreign model, or by reading what it has answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileprune.attacks import ATTACKS, Evidence, Outputs, score, seen
from mobileprune.bench import Size
from mobileprune.config import Effort
from mobileprune.errors import UsageError
from mobileprune.evaluate import Subject
from mobileprune.files import sha256
from mobileprune.foreign import tables
from mobileprune.foreign.answers import SHOWS, Kind

SAID = {
    "function": "a function of the caller's",
    "file": "a model file without a manifest",
    "table": "a table of outputs",
}


@dataclass(frozen=True)
class Examined:
    """A foreign model's answers and their attacks.

    ``model``: kind, name, sha256 and what its outputs are; ``data`` as in :class:`mobileprune.evaluate.AttackResult`;
    ``size`` of a model file; ``files`` of the examples.
    """

    subject: Subject
    model: dict[str, Any]
    data: dict[str, Any]
    effort: Effort
    notes: tuple[str, ...]
    size: Size | None = None
    files: tuple[str, ...] = ()


def of_outputs(path: Path, effort: Effort, kind: Kind | None = None) -> Examined:
    """The attacks on a table. There are no test images in it, so test accuracy is not known."""
    if effort.queries > 1:
        raise UsageError("--queries needs a model to ask; a table of outputs has one answer an example")
    table = tables.read(path, kind)
    outputs = Outputs(Evidence(table.logits, table.labels), table.member, table.canary)
    scores = score(outputs, ATTACKS, seen(effort.access, SHOWS[table.kind]))
    subject = Subject("artifact", outputs, scores, right=0, tested=0)
    digest, inside = sha256(path), table.member
    counts = {
        "members": int(inside.sum()),
        "held_out": int((~inside).sum()),
        "canary_members": int((table.canary & inside).sum()),
        "canary_held_out": int((table.canary & ~inside).sum()),
        "reference": 0,
        "test": 0,
    }
    data = {"name": path.name, "split_sha256": digest, "membership": "stated", "counts": counts}
    model = described("table", path.name, digest, table.kind)
    return Examined(subject, model, data, effort, tuple(said_of("table", table.kind, told=table.told)))


def described(kind: str, name: str, sha256: str | None, outputs: Kind) -> dict[str, Any]:
    return {"kind": kind, "name": name, "sha256": sha256, "outputs": outputs}


def said_of(kind: str, outputs: Kind, *, told: bool) -> Iterator[str]:
    yield f"{SAID[kind]}: there is no source and no dense baseline to hold it against"
    yield (
        "members and non-members are as stated: where something else tells them apart, such as their age or source, "
        "that counts as leakage too"
    )
    if not told:
        yield f"outputs are taken as {outputs}, as they look (--kind says what they are)"
