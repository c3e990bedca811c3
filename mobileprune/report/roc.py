"""ROC curves on logarithmic axes as SVG paths: the low false-positive end is where an attack hurts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mobileprune.report.tables import SUBJECTS, highest

SIZE = 320
LOWEST = 1e-3


@dataclass(frozen=True)
class Panel:
    """Curves as (css class, words, path) and the ticks of both axes as (pixel, text); SVG user units."""

    curves: list[tuple[str, str, str]]
    ticks: list[tuple[float, str]]
    chance: str
    size: int = SIZE


def panel(subjects: dict[str, Any], group: str) -> Panel:
    """The attack with the highest AUC of every subject."""
    curves = []
    for name, words in SUBJECTS.items():
        if name in subjects and group in subjects[name]["measurements"]:
            best = highest(subjects[name]["measurements"][group])
            path = _path(best["roc"]["fpr"], best["roc"]["tpr"])
            curves.append((name, f"{words}: {best['attack']}, AUC {best['auc']['value']:.3f}", path))
    ticks = [(_position(v), f"{v:g}") for v in (0.001, 0.01, 0.1, 1.0)]
    return Panel(curves, ticks, chance=f"M0 {SIZE}L{SIZE} 0")


def _position(rate: float) -> float:
    """0 for rates of LOWEST and less, SIZE for 1."""
    return round(SIZE * (1 - math.log10(max(rate, LOWEST)) / math.log10(LOWEST)), 1)


def _path(fpr: list[float], tpr: list[float]) -> str:
    """A staircase: between two measured points the rate is the lower one."""
    parts, last = [], None
    for x, y in zip(fpr, tpr, strict=True):
        point = (_position(x), SIZE - _position(y))
        if last is None:
            parts.append(f"M{point[0]} {point[1]:.1f}")
        elif point != last:
            parts.append(f"H{point[0]} V{point[1]:.1f}")
        last = point
    return " ".join(parts)
