"""What differs between two artifacts or model files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mobileprune.errors import ArtifactError
from mobileprune.inspection.contents import Layer
from mobileprune.inspection.reported import caveats, measured, report_of
from mobileprune.inspection.view import View

Pair = list[Any]
"""Of A and of B; None where one does not tell."""


@dataclass(frozen=True)
class Difference:
    a: View
    b: View

    def to_dict(self) -> dict[str, Any]:
        """``values`` and ``layers`` of both, as pairs; of ``operators`` and ``lineage`` only what differs.

        ``measured``: by the reports beside them; ``unread``: why one has none; ``caveats``: of holding them together.
        """
        sides = self.a, self.b
        lineages = [dict(_flat(side.manifest.lineage)) if side.manifest else {} for side in sides]
        return {
            "a": str(self.a.path),
            "b": str(self.b.path),
            "same_file": self.a.sha256 == self.b.sha256,
            "values": _pairs(*map(_values, sides)),
            "forms": _pairs(*(side.manifest.storage["sizes"] if side.manifest else {} for side in sides)),
            "layers": _layers(*({layer.name: layer for layer in side.contents.layers} for side in sides)),
            "operators": _operators(self.a.contents.operators, self.b.contents.operators),
            "lineage": _differing(*lineages) if all(lineages) else {},
            **_reports(*sides),
        }


def _reports(*sides: View) -> dict[str, Any]:
    reports: list[dict[str, Any] | None] = []
    unread: Pair = []
    for side in sides:
        try:
            reports.append(report_of(side))
            unread.append(None)
        except ArtifactError as error:
            reports.append(None)
            unread.append(str(error))
    both = [report for report in reports if report]
    return {
        "measured": _pairs(*(measured(report) if report else {} for report in reports)),
        "unread": unread,
        "caveats": list(caveats(*both)) if len(both) == len(sides) else [],
    }


def _values(view: View) -> dict[str, Any]:
    manifest, contents = view.manifest, view.contents
    storage, parity = (manifest.storage, manifest.parity) if manifest else ({}, {})
    layers = contents.layers
    return {
        "target": manifest and manifest.target,
        "precision": manifest and manifest.precision,
        "form": storage.get("form"),
        "size_bytes": view.size_bytes,
        "deflated_bytes": view.deflated_bytes,
        "weight_bytes": storage.get("weight_bytes"),
        "bound_bytes": storage.get("bound_bytes"),
        "weights": sum(layer.total for layer in layers) if layers else None,
        "zeros": sum(layer.zeros for layer in layers) if layers else None,
        "macs": contents.macs,
        "zero_macs": contents.zero_macs,
        "parity_max_difference": parity.get("max_difference"),
        "parity_top1_agreement": parity.get("top1_agreement"),
    }


def _layers(a: Mapping[str, Layer], b: Mapping[str, Layer]) -> dict[str, dict[str, Pair]]:
    """Of all layers that one of both has, in the order of A, what each is like in both."""
    found = {}
    for name in dict.fromkeys([*a, *b]):
        pair = a.get(name), b.get(name)
        found[name] = {
            "shape": [layer and [*layer.shape] for layer in pair],
            **{key: [layer and getattr(layer, key) for layer in pair] for key in ("total", "zeros", "macs")},
        }
    return found


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    return {key: [a.get(key), b.get(key)] for key in dict.fromkeys([*a, *b])}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    return {key: pair for key, pair in _pairs(a, b).items() if pair[0] != pair[1]}


def _operators(a: Mapping[str, int | None] | None, b: Mapping[str, int | None] | None) -> dict[str, Pair]:
    """Counts that differ; 0 for what is not there, None for what is there without a count."""
    if a is None or b is None:
        return {}
    pairs = {key: [a.get(key, 0), b.get(key, 0)] for key in dict.fromkeys([*a, *b])}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested ``values`` by dotted names: those of the options."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
