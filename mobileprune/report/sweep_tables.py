"""A sweep's tables as rows of text: one source for terminal, Markdown and HTML. First row: the headings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mobileprune.audit.verdict import GROUPS
from mobileprune.report.cells import at
from mobileprune.report.tables import Rows, estimate

ACCURACY = "test_accuracy"
NUMBERS: dict[str, tuple[str, Callable[[float], str]]] = {
    ACCURACY: ("test accuracy", "{:.1%}".format),
    "accuracy_drop": ("below dense, points", "{:.1f}".format),
    "size_bytes": ("file, bytes", "{:,.0f}".format),
    "deflated_bytes": ("deflated, bytes", "{:,.0f}".format),
    "latency_ms": ("latency, ms", "{:.3f}".format),
    "speedup": ("speed-up", "{:.2f}x".format),
    "auc": (f"attack AUC, {GROUPS['all']}", "{:.3f}".format),
    "canary_auc": (f"attack AUC, {GROUPS['canaries']}", "{:.3f}".format),
}
"""Key of a case's means -> heading and how it is written."""
BRIEF = {ACCURACY: True, "size_bytes": False, "latency_ms": False, "speedup": False, "auc": True, "canary_auc": True}
"""What a terminal has room for -> whether with its interval."""


def options_text(options: Mapping[str, Any]) -> str:
    """``method mia, sparsity 0.9``: named as a plan names them."""
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "defaults"


def telling(cases: list[dict[str, Any]]) -> list[str]:
    """The options that tell cases apart: one that follows from those before it, as members from the network, says
    nothing new."""
    names: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for name in dict.fromkeys(name for case in cases for name in case["options"]):
        with_it = {tuple(str(case["options"].get(each)) for each in (*names, name)) for case in cases}
        if len(with_it) > max(1, len(seen)):
            names, seen = [*names, name], with_it
    return names


def numbering(value: dict[str, Any]) -> dict[str, str]:
    """Case -> its number in drawings and tables: those on the front, the most accurate first."""
    return {case: str(number) for number, case in enumerate(value["front"], 1)}


def case_rows(value: dict[str, Any], ids: list[str], *, brief: bool = False) -> Rows:
    """One line a case, in the order of ``ids``; numbers are means over seeds with their intervals.

    ``brief``: only the numbers in BRIEF, and neither the place on the front nor the limits that are missed.
    """
    place = {case["id"]: index for index, case in enumerate(value["cases"])}
    options, numbers = telling(value["cases"]), numbering(value)
    wanted = BRIEF if brief else dict.fromkeys(NUMBERS, True)
    keys = [key for key in wanted if any(key in case["means"] for case in value["cases"])]
    judged = () if brief else ("front", "misses")
    rows: Rows = [("case", *options, *(NUMBERS[key][0] for key in keys), *judged)]
    for each in ids:
        case = value["cases"][place[each]]
        cells = []
        for key in keys:
            mean = case["means"].get(key)
            text = "-" if mean is None else _mean(key, mean, interval=wanted[key])
            cells.append(text if mean is None else at(text, "cases", place[each], "means", key))
        misses = ", ".join(miss["limit"] for miss in case["misses"]) or "-"
        told = () if brief else (numbers.get(each, "-"), misses)
        rows.append((each, *_options(case, options), *cells, *told))
    return rows


def point_rows(value: dict[str, Any]) -> Rows:
    """One line an artifact: the verdict and its own intervals."""
    options, numbers = telling(value["cases"]), (ACCURACY, "auc", "canary_auc")
    rows: Rows = [("artifact", *options, "seed", "verdict", *(NUMBERS[key][0] for key in numbers), "sha256")]
    for index, point in enumerate(value["points"]):
        verdict = at(point["verdict"], "points", index, "verdict")
        measured = _measured(point, "points", index)
        sha256 = point["artifact_sha256"][:12]
        rows.append((point["id"], *_options(point, options), str(point["seed"]), verdict, *measured, sha256))
    return rows


def baseline_rows(value: dict[str, Any]) -> Rows:
    """One line a dense model, with its own intervals."""
    shown = (ACCURACY, "auc", "canary_auc", "size_bytes")
    rows: Rows = [("baseline", "options", "seed", *(NUMBERS[key][0] for key in shown))]
    for index, each in enumerate(value["baselines"]):
        measured = _measured(each, "baselines", index)
        size = at(NUMBERS["size_bytes"][1](each["size_bytes"]), "baselines", index, "size_bytes")
        rows.append((each["id"], options_text(each["options"]), str(each["seed"]), *measured, size))
    return rows


def _options(case: dict[str, Any], names: list[str]) -> list[str]:
    return [str(case["options"].get(name, "-")) for name in names]


def _measured(each: dict[str, Any], *place: str | int) -> list[str]:
    """Accuracy and leakage of one file."""
    accuracy = each[ACCURACY]
    cells = ["-" if accuracy is None else at(NUMBERS[ACCURACY][1](accuracy), *place, ACCURACY)]
    for key in ("auc", "canary_auc"):
        found = each[key]
        cells.append("-" if found is None else at(estimate(found["auc"]), *place, key, "auc"))
    return cells


def _mean(key: str, mean: dict[str, Any], *, interval: bool) -> str:
    write = NUMBERS[key][1]
    if not interval or mean["low"] is None or mean["low"] == mean["high"]:
        return write(mean["mean"])
    return f"{write(mean['mean'])} [{write(mean['low'])}, {write(mean['high'])}]"
