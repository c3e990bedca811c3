"""The charts of a report show the numbers that are in it."""

from __future__ import annotations

import math
import re

import pytest

from mobileprune.report.charts import HEIGHT, LOWEST, WIDTH, Chart, histogram_chart, latency_chart, roc_chart
from mobileprune.report.render import html
from mobileprune.report.tables import highest


def corners(chart: Chart, css: str) -> list[tuple[float, float]]:
    """Of the drawn line: the points of its stairs."""
    path = next(shape.path for shape in chart.shapes if (shape.kind, shape.css) == ("line", css))
    start, *steps = re.findall(r"M([\d.]+) ([\d.]+)|H([\d.]+) V([\d.]+)", path)
    return [(float(start[0]), float(start[1])), *((float(x), float(y)) for _, _, x, y in steps)]


def curve(fpr: list[float], tpr: list[float]) -> list[tuple[float, float]]:
    """The corners of the drawn path, through the public chart."""
    number = {"value": 0.5, "low": 0.4, "high": 0.6}
    best = {"attack": "loss", "nonmembers": 9, "auc": number, "tpr_at_1pct_fpr": number}
    subject = {"measurements": {"all": {"loss": best | {"roc": {"fpr": fpr, "tpr": tpr}}}}, "distributions": {}}
    return corners(roc_chart({"artifact": subject}, "all"), "artifact")


def where(rate: float, size: int = WIDTH) -> float:
    """Three decades over ``size`` units: 0.001 at 0, 0.01 at a third, 1 at the end."""
    return size * (3 + math.log10(max(rate, 0.001))) / 3


def test_curves_lie_where_the_logarithm_puts_them() -> None:
    fpr, tpr = [0.0, 0.0, 0.002, 0.05, 0.3, 1.0], [0.0, 0.01, 0.01, 0.2, 0.6, 1.0]
    expected = [(where(x), HEIGHT - where(y, HEIGHT)) for x, y in zip(fpr, tpr, strict=True)]
    assert curve(fpr, tpr) == pytest.approx([pytest.approx(point, abs=0.11) for point in expected])
    assert curve([0, 1], [0, 1])[-1] == (WIDTH, 0)
    assert LOWEST == 0.001


def test_ticks_and_the_chance_line_fit_the_curves(value) -> None:
    drawn = roc_chart(value["audit"]["subjects"], "all")
    assert drawn.x.ticks() == [(pytest.approx(where(float(t)), abs=0.06), t) for t in ("0.001", "0.01", "0.1", "1")]
    chance = next(shape.path for shape in drawn.shapes if shape.css == "chance")
    ends = [float(number) for number in re.findall(r"[\d.]+", chance)]
    assert ends == [0, HEIGHT, WIDTH, 0], "equal rates: from the lower left corner straight to the upper right"


def test_the_curve_of_the_real_report_is_the_strongest_attacks(value) -> None:
    for group in ("all", "canaries"):
        chart = roc_chart(value["audit"]["subjects"], group)
        lines = {shape.css: shape.path for shape in chart.shapes if shape.kind == "line"}
        assert set(lines) == {"chance", "dense", "source", "artifact"}
        for name in ("dense", "source", "artifact"):
            best = highest(value["audit"]["subjects"][name]["measurements"][group])
            assert corners(chart, name) == curve(best["roc"]["fpr"], best["roc"]["tpr"])
            assert lines[name] in html(value)
            assert value["audit"]["subjects"][name]["distributions"][group]["attack"] == best["attack"]


def test_bars_hold_all_scores(value) -> None:
    subject = value["audit"]["subjects"]["artifact"]
    drawn = subject["distributions"]["all"]["histogram"]
    counts = value["audit"]["data"]["counts"]
    assert (sum(drawn["members"]), sum(drawn["nonmembers"])) == (counts["members"], counts["held_out"])
    chart = histogram_chart(subject, "all")
    assert chart is not None
    assert [shape.css for shape in chart.shapes] == ["nonmembers", "members"]
    heights = [float(y) for y in re.findall(r"V([\d.]+) H", chart.shapes[1].path)]
    shares = [n / counts["members"] for n in drawn["members"]]
    assert heights == pytest.approx([HEIGHT - HEIGHT * share / chart.y.high for share in shares], abs=0.11)


def test_latency_is_drawn_from_its_quantiles(value) -> None:
    chart = latency_chart(value["bench"])
    assert chart is not None
    (line,) = (shape.path for shape in chart.shapes if shape.css == "artifact")
    points = [tuple(map(float, pair.split())) for pair in line[1:].split("L")]
    assert len(points) == 20, "0, 5, ..., 95 %"
    assert [y for _, y in points] == pytest.approx([HEIGHT * (1 - i / 20) for i in range(20)], abs=0.11)
    assert points == sorted(points, key=lambda point: point[0])
    for costs in (value["bench"]["artifact"], value["bench"]["baseline"]):
        costs["latency_ms"]["quantiles"] = [1.0] * 21
    assert latency_chart(value["bench"]) is None, "no axis fits equal times"
    html(value)
