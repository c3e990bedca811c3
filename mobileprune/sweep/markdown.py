"""A sweep as Markdown, and its tables as rows of text, from the document alone."""

from __future__ import annotations

from typing import Any

from mobileprune.report.markdown import line, table, text

Values = dict[str, Any]
Rows = list[tuple[str, ...]]
COLUMNS = {
    "test_accuracy": ("test accuracy", "{:.3f}"),
    "size_bytes": ("bytes", "{:,.0f}"),
    "deflated_bytes": ("deflated", "{:,.0f}"),
    "latency_ms": ("latency, ms", "{:.3f}"),
    "speedup": ("speed-up", "{:.2f}"),
    "auc": ("AUC", "{:.3f}"),
    "canary_auc": ("canary AUC", "{:.3f}"),
}
WIDE = ("test_accuracy", "auc", "canary_auc")
"""Shown with their intervals."""


def case_rows(value: Values, cases: list[Values]) -> Rows:
    """Heading, then one row a case."""
    options = telling(value["cases"])
    shown = [name for name in COLUMNS if any(name in case["means"] for case in value["cases"])]
    rows: Rows = [("case", *options, *(COLUMNS[name][0] for name in shown))]
    for case in cases:
        cells = (_mean(name, case["means"].get(name)) for name in shown)
        rows.append((case["id"], *(str(case["options"].get(name, "")) for name in options), *cells))
    return rows


def telling(cases: list[Values]) -> list[str]:
    """The options that tell cases apart: one that follows from those before it, as members from the network, says
    nothing new."""
    names: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for name in dict.fromkeys(name for case in cases for name in case["options"]):
        with_it = {tuple(str(case["options"].get(each)) for each in (*names, name)) for case in cases}
        if len(with_it) > max(1, len(seen)):
            names, seen = [*names, name], with_it
    return names


def _mean(name: str, found: Values | None) -> str:
    if found is None:
        return "-"
    form = COLUMNS[name][1]
    text = form.format(found["mean"])
    if name in WIDE and found["low"] is not None:
        text += f" [{form.format(found['low'])}, {form.format(found['high'])}]"
    return text


def front(value: Values) -> list[Values]:
    by_id = {case["id"]: case for case in value["cases"]}
    return [by_id[name] for name in value["front"]]


def baseline_rows(value: Values) -> Rows:
    rows: Rows = [("baseline", "options", "seed", "test accuracy", "bytes", "AUC", "canary AUC")]
    for each in value["baselines"]:
        options = ", ".join(f"{name} {option}" for name, option in each["options"].items())
        leaks = [each["auc"]["auc"]["value"], each["canary_auc"] and each["canary_auc"]["auc"]["value"]]
        numbers = [each["test_accuracy"], *leaks]
        accuracy, *areas = ["-" if number is None else f"{number:.3f}" for number in numbers]
        rows.append((each["id"], options, str(each["seed"]), accuracy, f"{each['size_bytes']:,}", *areas))
    return rows


def headline(value: Values) -> str:
    """What came of it, in a sentence or two."""
    done, total = value["progress"]["done"], value["progress"]["total"]
    running = "" if done == total else f" Not finished: {done} of {total} tasks are done."
    if value["chosen"]:
        return f"{value['chosen']['sentence']}{running}"
    count = len(value["front"])
    return (
        f"{len(value['points'])} artifacts of {len(value['cases'])} cases; {count} "
        f"{'case is' if count == 1 else 'cases are'} on the Pareto front.{running}"
    )


def markdown(value: Values) -> str:
    names = ", ".join(f"{each['name']} ({each['better']} is better)" for each in value["objectives"])
    lines = [f"# Sweep {text(value['name'])}", "", line(headline(value)), ""]
    if value["limits"]:
        lines += [f"Limits: {', '.join(f'{name} {bound:g}' for name, bound in value['limits'].items())}.", ""]
    lines += ["## Pareto front", "", f"Over {names}; means over seeds, with 95 % intervals of Student.", ""]
    lines += table(case_rows(value, front(value)))
    lines += ["", "## All cases", "", *table(case_rows(value, value["cases"]))]
    lines += ["", "## Dense baselines", "", *table(baseline_rows(value))]
    for each in value["failed"]:
        options = ", ".join(f"{name} {option}" for name, option in each["options"].items())
        lines += ["", f"- failed: {text(options)}: {text(each['error'])}"]
    busy = sum(1 for point in value["points"] if point["latency"] and not point["latency"]["valid"])
    notes = [*value["notes"], *([f"{busy} timings are not valid: the machine was busy"] if busy else [])]
    lines += ["", *(f"- {line(note)}" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"
