"""The report's drawings as SVG paths; a template puts them down, the page's style gives them colours.

Drawn here and not by a plotting library because the colours have to follow the reader's light or dark mode, which an
SVG of matplotlib has baked in, and because the page runs no script, which plotly is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mobileprune.audit.verdict import GROUPS
from mobileprune.report.axes import Axis
from mobileprune.report.tables import SUBJECTS, estimate, highest

WIDTH, HEIGHT = 360, 260
LOWEST = 1e-3
"""The lowest rate of a ROC curve's axes."""
SMALLEST = 1e-300
"""Of the span of an axis; its reciprocal is the largest."""


@dataclass(frozen=True)
class Shape:
    """``css``: the class that gives the colour; ``path`` in pixels from above; ``title``: told to a pointer."""

    kind: Literal["line", "area", "dot", "ring", "whisker"]
    css: str
    path: str
    label: str = ""
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """``words``: what it shows, for those who cannot see it. Shapes with a label are in the key.

    ``texts``: (x, y, text), in pixels from above.
    """

    x: Axis
    y: Axis
    words: str = ""
    shapes: tuple[Shape, ...] = ()
    texts: tuple[tuple[float, float, str], ...] = ()
    width: int = WIDTH
    height: int = HEIGHT

    def up(self, value: float) -> float:
        """The pixel of a value of y, counted from above."""
        return round(self.height - self.y.at(value), 1)


def roc_chart(subjects: dict[str, Any], group: str) -> Chart:
    """The attack with the highest AUC on every subject, bands around the dense and the exported file's."""
    x = Axis(LOWEST, 1.0, WIDTH, "false positive rate", log=True)
    chart = Chart(x, replace(x, size=HEIGHT, label="true positive rate"))
    shapes = [Shape("line", "chance", line(chart, [(LOWEST, LOWEST), (1, 1)]), "chance: the attacker guesses")]
    smallest = 1 / max(next(iter(subjects["artifact"]["measurements"][group].values()))["nonmembers"], 1)
    box = [(LOWEST, LOWEST), (LOWEST, 1), (smallest, 1), (smallest, LOWEST)]
    if smallest > LOWEST:
        shapes.append(Shape("area", "unresolved", line(chart, box) + "Z", "too few non-members to tell"))
    words = []
    for name in ("dense", "artifact", "source"):  # the source last, and dashed: it lies on the file's curve
        if name in subjects and group in subjects[name]["measurements"]:
            best, drawn = highest(subjects[name]["measurements"][group]), subjects[name]["distributions"].get(group)
            label = f"{SUBJECTS[name]}: {best['attack']}, AUC {estimate(best['auc'])}"
            if drawn and name != "source":
                shapes.insert(0, Shape("area", name, _area(chart, drawn["band"])))
            shapes.append(Shape("line", name, _stairs(chart, best["roc"]["fpr"], best["roc"]["tpr"]), label))
            words.append(f"{label}, {estimate(best['tpr_at_1pct_fpr'])} of the members found at 1 % false positives")
    text = f"ROC curves on logarithmic axes, {GROUPS[group]}. {'; '.join(words)}."
    return replace(chart, words=text, shapes=tuple(shapes))


def histogram_chart(subject: dict[str, Any], group: str) -> Chart | None:
    """The scores of the exported file's members and non-members; None where there are none, or none to be drawn."""
    drawn = subject["distributions"].get(group)
    edges = drawn["histogram"]["edges"] if drawn else []
    if not edges or not SMALLEST < edges[-1] - edges[0] < 1 / SMALLEST:
        return None
    sides = {"nonmembers": "non-members", "members": "members"}
    counts = {side: drawn["histogram"][side] for side in sides}
    shares = {side: [n / max(sum(counted), 1) for n in counted] for side, counted in counts.items()}
    top = max(map(max, shares.values()))
    x = Axis(edges[0], edges[-1], WIDTH, f"score of {drawn['attack']}; higher: more like a member")
    chart = Chart(x, Axis(0, top * 1.05, HEIGHT, "share of each side", percent=True))
    shapes = [Shape("area", side, _bars(chart, edges, shares[side]), words) for side, words in sides.items()]
    text = (
        f"Histogram of the scores of {drawn['attack']} on the exported file, {GROUPS[group]}: members against "
        f"non-members. The more the two overlap, the less the attacker can tell."
    )
    return replace(chart, words=text, shapes=tuple(shapes))


def latency_chart(bench: dict[str, Any]) -> Chart | None:
    """How many of the runs took at most how long; None where all took the same."""
    found = {"dense": bench["baseline"], "artifact": bench["artifact"]}
    times = {name: costs["latency_ms"]["quantiles"] for name, costs in found.items() if costs}
    # The slowest twentieth is the tail of whatever else the machine did; the table has its 99 %.
    times = {name: taken[:-1] for name, taken in times.items()}
    low, high = min(t[0] for t in times.values()), max(t[-1] for t in times.values())
    if not 0 < low < high:
        return None
    x = Axis(low, high, WIDTH, "milliseconds for one image", log=True)
    chart = Chart(x, Axis(0, 1, HEIGHT, "share of runs that took no longer", percent=True))
    shapes, words = [], []
    for name, taken in times.items():
        p50, p99 = (found[name]["latency_ms"][key] for key in ("p50", "p99"))
        label = f"{SUBJECTS[name]}: median {p50:.3g} ms"
        path = line(chart, [(t, i / len(taken)) for i, t in enumerate(taken)])
        shapes.append(Shape("line", name, path, label))
        words.append(f"{label}, 99 % within {p99:.3g} ms")
    text = f"Distribution of latency. {'; '.join(words)}."
    return replace(chart, words=text, shapes=tuple(shapes))


def dot(chart: Chart, x: float, y: float, radius: float = 5) -> str:
    """A circle."""
    arc = f"a{radius} {radius} 0 1 0"
    return f"M{round(chart.x.at(x) - radius, 1)} {chart.up(y)}{arc} {2 * radius} 0{arc}-{2 * radius} 0"


def line(chart: Chart, points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{chart.x.at(x)} {chart.up(y)}" for x, y in points)


def _stairs(chart: Chart, fpr: Sequence[float], tpr: Sequence[float]) -> str:
    """Between two measured points the rate is the lower one."""
    corners = list(dict.fromkeys((chart.x.at(x), chart.up(y)) for x, y in zip(fpr, tpr, strict=True)))
    return " ".join([f"M{x} {y}" if i == 0 else f"H{x} V{y}" for i, (x, y) in enumerate(corners)])


def _area(chart: Chart, band: dict[str, Any]) -> str:
    above, below = (list(zip(band["fpr"], band[side], strict=True)) for side in ("high", "low"))
    return line(chart, [*above, *reversed(below)]) + "Z" if above else ""


def _bars(chart: Chart, edges: Sequence[float], heights: Sequence[float]) -> str:
    """The outline of all bars together."""
    steps = (f"V{chart.up(height)} H{chart.x.at(edges[i + 1])}" for i, height in enumerate(heights))
    return f"M0 {chart.height} {' '.join(steps)} V{chart.height}Z"
