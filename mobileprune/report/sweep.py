"""The page of a sweep: what was chosen, the Pareto front drawn and as a table, every case, what could not be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mobileprune.report.axes import Axis
from mobileprune.report.cells import at
from mobileprune.report.charts import HEIGHT, WIDTH, Chart, Shape, dot, line
from mobileprune.report.page import render
from mobileprune.report.raw import Raw
from mobileprune.report.tables import Rows, estimate
from mobileprune.report.words import not_tested, not_tried

ACCURACY = "test_accuracy"
NUMBERS: dict[str, tuple[str, Callable[[float], str]]] = {
    ACCURACY: ("test accuracy", "{:.1%}".format),
    "accuracy_drop": ("below dense, points", "{:.1f}".format),
    "size_bytes": ("file, bytes", "{:,.0f}".format),
    "deflated_bytes": ("deflated, bytes", "{:,.0f}".format),
    "latency_ms": ("latency, ms", "{:.3f}".format),
    "speedup": ("speed-up", "{:.2f}x".format),
    "auc": ("attack AUC, all members", "{:.3f}".format),
    "canary_auc": ("attack AUC, canaries", "{:.3f}".format),
}
"""Key of a case's means -> heading and how it is written."""
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
        not_tried=[short for short, _ in not_tried(value["effort"])],
        not_tested=not_tested(value["effort"]),
    )


def options_text(options: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items()) or "defaults"


def _grid_value(value: Any) -> str:
    """One value of an axis; several options that it sets together are an object."""
    return options_text(value) if isinstance(value, dict) else str(value)


def case_rows(value: dict[str, Any], ids: list[str]) -> Rows:
    """One line a case, in the order of ``ids``; numbers are means over seeds with their intervals."""
    place = {case["id"]: index for index, case in enumerate(value["cases"])}
    keys = [key for key in NUMBERS if any(key in case["means"] for case in value["cases"])]
    rows: Rows = [("options", "no.", *(NUMBERS[key][0] for key in keys), "front", "misses")]
    numbers = numbering(value)
    for each in ids:
        case = value["cases"][place[each]]
        cells = []
        for key in keys:
            mean = case["means"].get(key)
            cells.append("-" if mean is None else at(_mean(key, mean), "cases", place[each], "means", key))
        rank = "-" if case["rank"] is None else str(case["rank"])
        misses = ", ".join(miss["limit"] for miss in case["misses"]) or "-"
        rows.append((options_text(case["options"]), numbers.get(each, "-"), *cells, rank, misses))
    return rows


def point_rows(value: dict[str, Any]) -> Rows:
    """One line an artifact: the verdict and its own intervals."""
    rows: Rows = [("options", "seed", "verdict", "test accuracy", "AUC, all members", "AUC, canaries", "sha256")]
    for index, point in enumerate(value["points"]):
        accuracy, canaries = point[ACCURACY], point["canary_auc"]
        rows.append(
            (
                options_text(point["options"]),
                str(point["seed"]),
                at(point["verdict"], "points", index, "verdict"),
                "-" if accuracy is None else at(f"{accuracy:.1%}", "points", index, ACCURACY),
                at(estimate(point["auc"]["auc"]), "points", index, "auc", "auc"),
                "-" if canaries is None else at(estimate(canaries["auc"]), "points", index, "canary_auc", "auc"),
                point["artifact_sha256"][:12],
            )
        )
    return rows


def numbering(value: dict[str, Any]) -> dict[str, str]:
    """Case -> its number in drawings and tables: those on the front, the most accurate first."""
    return {case: str(number) for number, case in enumerate(value["front"], 1)}


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


def _mean(key: str, mean: dict[str, Any]) -> str:
    write = NUMBERS[key][1]
    if mean["low"] is None or mean["low"] == mean["high"]:
        return write(mean["mean"])
    return f"{write(mean['mean'])} [{write(mean['low'])}, {write(mean['high'])}]"
