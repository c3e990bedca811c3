"""A sweep as Markdown, from the document alone."""

from __future__ import annotations

from typing import Any

from mobileprune.report.markdown import line, table, text
from mobileprune.report.sweep_tables import baseline_rows, case_rows, options_text

Values = dict[str, Any]


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
    lines += table(case_rows(value, value["front"]))
    lines += ["", "## All cases", "", *table(case_rows(value, [case["id"] for case in value["cases"]]))]
    lines += ["", "## Dense baselines", "", *table(baseline_rows(value))]
    for each in value["failed"]:
        lines += ["", f"- failed: {text(options_text(each['options']))}: {text(each['error'])}"]
    busy = sum(1 for point in value["points"] if point["latency"] and not point["latency"]["valid"])
    notes = [*value["notes"], *([f"{busy} timings are not valid: the machine was busy"] if busy else [])]
    lines += ["", *(f"- {line(note)}" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"
