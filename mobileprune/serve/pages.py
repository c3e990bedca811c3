"""The pages: what each shows, as HTML. A page knows items, never an address."""

from __future__ import annotations

from collections import Counter
from functools import partial

from mobileprune.errors import ArtifactError
from mobileprune.inspection import Difference, look, tables
from mobileprune.inspection.reported import REPORT, document
from mobileprune.report.page import render as render_from
from mobileprune.report.render import card, html
from mobileprune.report.sentences import made_by, sparsity_sentence, stored_as
from mobileprune.report.sweep import sweep_html
from mobileprune.report.tables import Rows, measured_rows
from mobileprune.serve.library import RECENT_SECS, Item, ago, manifest_of, verdict_of
from mobileprune.sweep.output import DOCUMENT

FOLLOW_SECS = 3
MOST_STEPS = 30
render = partial(render_from, package="mobileprune.serve")


def overview(items: dict[str, Item], query: str, follow: bool, now: float) -> str:
    """All that was found whose line contains every word of ``query``."""
    artifacts = []
    for item in items.values():
        manifest = manifest_of(item) if item.kind == "artifact" else None
        if manifest is None:
            continue
        prune, train = manifest.lineage["prune"], manifest.lineage["train"]
        cells = (
            item.name,
            train["model"],
            prune["method"] if prune else "-",
            f"{manifest.sparsity['prunable_zeros'] / manifest.sparsity['prunable_total']:.1%}",
            f"{manifest.target}, {manifest.precision}",
            f"{manifest.size_bytes:,}",
            manifest.created[:10],
            verdict_of(item),
        )
        if all(word in " ".join(cells).casefold() for word in query.casefold().split()):
            artifacts.append((item.key, cells))
    steps = sorted((item for item in items.values() if item.kind == "step"), key=lambda item: -item.changed)
    running = [item for item in items.values() if item.kind == "running" and now - item.changed < RECENT_SECS]
    return render(
        "overview",
        artifacts=artifacts,
        sweeps=[(item.key, item.name) for item in items.values() if item.kind == "sweep"],
        running=[(item.name[:12], ago(item.changed)) for item in running],
        counts=sorted(Counter(item.path.parent.name for item in steps).items()),
        steps=[(item.path.parent.name, item.path.name[:12], ago(item.changed)) for item in steps[:MOST_STEPS]],
        query=query,
        follow=FOLLOW_SECS if follow else 0,
    )


def artifact(item: Item) -> str:
    """The verified file; ArtifactError where it was altered."""
    view = look(item.path)
    contents, manifest = view.contents.to_dict(), view.manifest
    if manifest is None:
        raise ArtifactError("there is no manifest")
    sections: list[tuple[str, Rows]] = [
        ("Stored as", tables.storage_rows(manifest.storage)),
        ("Layers", tables.layer_rows(contents)),
    ]
    return render(
        "artifact",
        key=item.key,
        name=item.name,
        manifest=manifest,
        reported=verdict_of(item),
        sentences=[sparsity_sentence(manifest.sparsity), *made_by(manifest.lineage), stored_as(manifest.to_dict())],
        sections=sections,
        operators=tables.operators(contents),
        notes=contents["notes"],
    )


def compare(a: Item, b: Item) -> str:
    """Two artifacts side by side: what their reports measured, what sets those apart, and what differs in the files."""
    found = Difference(look(a.path), look(b.path)).to_dict()
    sections = [
        ("Measured, by the report of each", measured_rows(found)),
        ("File", tables.value_rows(found)),
        ("Layers that differ", tables.layer_difference_rows(found)),
        ("Operators that differ", tables.pair_rows(found["operators"], "operator")),
        ("Where they come from", tables.pair_rows(found["lineage"], "option")),
    ]
    shown = [(title, rows) for title, rows in sections if len(rows) > 1]
    notes = [*tables.unread(found), *found["caveats"]]
    return render("compare", a=a, b=b, same_file=found["same_file"], notes=notes, sections=shown)


def report(item: Item) -> str:
    return html(document(item.path / REPORT, "report"))


def privacy_card(item: Item) -> str:
    return card(document(item.path / REPORT, "report"))


def sweep(item: Item) -> str:
    return sweep_html(document(item.path / DOCUMENT, "sweep"))


def failure(sentence: str) -> str:
    return render("failure", sentence=sentence)
