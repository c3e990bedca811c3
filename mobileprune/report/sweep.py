"""The page of a sweep: what was chosen, the Pareto front drawn and as a table, every case, what could not be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mobileprune.report.axes import Axis
from mobileprune.report.charts import HEIGHT, WIDTH, Chart, Shape, dot, line
from mobileprune.report.page import render
from mobileprune.report.raw import Raw
from mobileprune.report.sweep_tables import ACCURACY, NUMBERS, case_rows, numbering, options_text, point_rows
from mobileprune.report.words import not_tested, not_tried

LOG = ("size_bytes", "deflated_bytes", "latency_ms", "speedup")
MARGIN = 0.06
LIFT = 12
"""Pixels between a dot and its number."""
NEAR = 18, 11
"""Pixels at which two numbers would lie on each other."""


def sweep_html(value: dict[str, Any]) -> str:
    """``value``: the JSON value of a sweep."""
    chosen, front = value["chosen"], value["front"]
    outcome = "open" if chosen is None else "pass" if chosen["fits"] else "fail"
    answer = {
        "open": f"{len(front)} of {len(value['cases'])} combinations are on the front.",
        "pass": "Yes: one is chosen.",
        "fail": "No: nothing fits the limits.",
    }[outcome]
    return render(
        "sweep",
        raw=Raw({"schema": "mobileprune.sweep/1", **value}),
        value=value,
        grid={name: "; ".join(map(_grid_value, values)) for name, values in value["grid"].items()},
        objectives=[NUMBERS[objective["name"]][0] for objective in value["objectives"]],
        outcome=outcome,
        answer=answer,
        sentence=chosen["sentence"] if chosen else "No limits were given, so none is chosen.",
        charts=list(pareto_charts(value)),
        front=case_rows(value, front),
        all_cases=case_rows(value, [case["id"] for case in value["cases"]]),
        points=point_rows(value),
        failed=[(options_text(each["options"]), each["error"]) for each in value["failed"]],
        not_tried=[short for short, _ in not_tried(value["effort"])],
        not_tested=not_tested(value["effort"]),
    )


def _grid_value(value: Any) -> str:
    """One value of an axis; several options that it sets together are an object."""
    return options_text(value) if isinstance(value, dict) else str(value)


def pareto_charts(value: dict[str, Any]) -> Iterator[tuple[str, Chart]]:
    """Accuracy against each other objective of the front, with the objective's name."""
    for objective in value["objectives"]:
        name = objective["name"]
        cases = [case for case in value["cases"] if {name, ACCURACY} <= case["means"].keys()]
        if name != ACCURACY and cases:
            yield NUMBERS[name][0], _pareto(value, cases, name)


def _pareto(value: dict[str, Any], cases: list[dict[str, Any]], name: str) -> Chart:
    numbers, chosen = numbering(value), (value["chosen"] or {}).get("case")
    dense = [
        (b[name] if isinstance(b[name], int) else b[name]["auc"]["value"], b[ACCURACY]) for b in _dense(value, name)
    ]
    found = [(case["means"][name]["mean"], case["means"][ACCURACY]["mean"]) for case in cases]
    x = _axis([a for a, _ in (*found, *dense)], WIDTH, NUMBERS[name][0], log=name in LOG)
    y = _axis([b for _, b in (*found, *dense)], HEIGHT, NUMBERS[ACCURACY][0], percent=True)
    chart = Chart(x, y)
    first = {"dense": "dense", "other": "not on the front", "artifact": "on the Pareto front", "chosen": "chosen"}
    shapes = [Shape("dot", "dense", dot(chart, a, b), _once(first, "dense"), "dense") for a, b in dense]
    placed = sorted(zip(cases, found, strict=True), key=lambda pair: int(numbers.get(pair[0]["id"], 0)))
    for case, (a, b) in placed:
        css = "artifact" if case["id"] in numbers else "other"
        spread = case["means"][ACCURACY]
        if spread["low"] is not None:
            shapes.append(Shape("whisker", css, line(chart, [(a, spread["low"]), (a, spread["high"])])))
        title = f"{options_text(case['options'])}: {NUMBERS[name][1](a)}, accuracy {b:.1%}"
        shapes.append(Shape("dot", css, dot(chart, a, b), _once(first, css), title))
        if case["id"] == chosen:
            shapes.append(Shape("ring", "chosen", dot(chart, a, b, radius=9), _once(first, "chosen")))
    labels = [(x.at(a), chart.up(b) - LIFT, numbers[case["id"]]) for case, (a, b) in placed if case["id"] in numbers]
    words = (
        f"Test accuracy against {NUMBERS[name][0]} of {len(cases)} combinations, means over seeds; "
        f"{sum(case['id'] in numbers for case in cases)} are on the Pareto front and numbered as in the table."
    )
    return replace(chart, words=words, shapes=tuple(shapes), texts=tuple(_together(labels)))


def _together(labels: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Numbers that would lie on each other as one text, at the place of the first."""
    found: list[tuple[float, float, str]] = []
    for x, y, text in labels:
        near = next((i for i, (a, b, _) in enumerate(found) if abs(a - x) < NEAR[0] and abs(b - y) < NEAR[1]), None)
        if near is None:
            found.append((x, y, text))
        else:
            found[near] = (*found[near][:2], f"{found[near][2]}, {text}")
    return found


def _dense(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The dense models that have both numbers; latency is known of points only."""
    for baseline in value["baselines"]:
        found = baseline.get(name)
        known = found["auc"]["value"] if isinstance(found, dict) else found
        if known is not None and baseline[ACCURACY] is not None:
            yield baseline


def _once(words: dict[str, str], key: str) -> str:
    """The label for the key of the drawing: of the first of its kind only."""
    return words.pop(key, "")


def _axis(values: list[float], size: int, label: str, *, log: bool = False, percent: bool = False) -> Axis:
    """Around all values, with a margin; never of no length."""
    low, high = min(values), max(values)
    if log and low > 0:
        return Axis(low / 1.15, high * 1.15, size, label, log=True)
    margin = (high - low) * MARGIN or 0.01
    return Axis(low - margin, high + margin, size, label, percent=percent)
