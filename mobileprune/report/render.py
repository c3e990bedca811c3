"""The report of one artifact as HTML and Markdown from the same tables, and its privacy card."""

from __future__ import annotations

from typing import Any

from mobileprune.audit.gates import worst
from mobileprune.audit.verdict import GROUPS, SEVERITY
from mobileprune.report.advice import advice
from mobileprune.report.charts import histogram_chart, latency_chart, roc_chart
from mobileprune.report.device import (
    device_bench_rows,
    device_sentence,
    device_tables,
    on_device_rows,
    on_device_title,
)
from mobileprune.report.markdown import line, table, text
from mobileprune.report.page import render
from mobileprune.report.raw import Raw, thinned
from mobileprune.report.sentences import (
    epsilon_sentences,
    exposed_sentence,
    kernels_sentence,
    made_by,
    power_sentences,
    sparsity_sentence,
    stored_as,
)
from mobileprune.report.tables import (
    Rows,
    attack_rows,
    bench_rows,
    exposure_rows,
    kernel_rows,
    layer_rows,
    rate_rows,
    summary_rows,
)
from mobileprune.report.words import ANSWERS, ASKED, SAFE, costs, in_plain_words, not_tested, not_tried

INTERVALS = "Brackets are 95 % intervals. AUC 0.5: the attacker guesses; 1: every member is recognised."
WHICH_INTERVAL = (
    "One AUC has three intervals: here that of the attack which one half of the images chose, measured on the other "
    "half (95 %); in the tables of every attack, that of each alone on all images (95 %); in the verdict one-sided "
    "bounds, of which the lower, that a failure takes, allows for the number of attacks tried."
)


def html(value: dict[str, Any]) -> str:
    subjects = value["audit"]["subjects"]
    groups = _groups(value)
    drawings = [
        (GROUPS[group], roc_chart(subjects, group), histogram_chart(subjects["artifact"], group)) for group in groups
    ]
    raw = Raw(thinned({"schema": "mobileprune.report/1", **value}))
    return render("report", raw=raw, drawings=drawings, latency=latency_chart(value["bench"]), **_content(value))


def card(value: dict[str, Any]) -> str:
    """The model privacy card: one printed page for whoever ships the model."""
    return render("card", raw=None, access=value["audit"]["effort"], **_content(value))


def markdown(value: dict[str, Any]) -> str:
    content = _content(value)
    lines = [f"# mobileprune report: {content['overall']}", "", line(content["verdict"]["sentence"]), ""]
    lines += [f"- {f['question']} **{f['answer']}** {text(f['sentence'])}" for f in content["findings"]]
    lines += [f"- **{gate['outcome']}** {text(gate['sentence'])}" for gate in content["gates"]]
    lines += ["", "## Cost", "", *(f"- {what.strip()}: {text(''.join(parts))}" for what, parts in content["costs"])]
    for id, _, tables in content["sections"]:
        for title, rows in tables:
            lines += ["", f"## {text(title)}", "", *table(rows)]
        lines += ["", line(WHICH_INTERVAL)] if id == "change" else []
    lines += ["", *(f"- {line(item)}" for item in content["findings_beside"])]
    if notes := content["notes"]:
        lines += ["", "## To be known", "", *(f"- {line(item)}" for item in notes)]
    lines += ["", "## Not tested", "", *(f"- {line(item)}" for item in content["not_tested"])]
    lines += ["", "## Made by", "", *(f"- {line(item)}" for item in content["made_by"])]
    lines += ["", line(content["verdict"]["caveat"]), "", f"Artifact sha256 `{value['manifest']['sha256']}`."]
    return "\n".join(lines) + "\n"


def _groups(value: dict[str, Any]) -> list[str]:
    return [group for group in GROUPS if group in value["audit"]["subjects"]["artifact"]["measurements"]]


def _sections(value: dict[str, Any]) -> list[tuple[str, str, list[tuple[str, Rows]]]]:
    """(id, heading, tables with their titles), in the order of the page."""
    audit, kernels = value["audit"], value["manifest"]["storage"].get("kernels")
    groups, threads = _groups(value), value["bench"]["num_threads"]
    attacks = [(f"Every attack: {GROUPS[group]}", attack_rows(audit, group)) for group in groups]
    rates = [(f"The exported file: {GROUPS[group]}", rate_rows(audit, group)) for group in groups]
    by_layer = [("Sparsity by layer", layer_rows(value))]
    devices = _device_tables(value)
    return [
        ("change", "Before and after", [("Before and after", summary_rows(value))]),
        (
            "leakage",
            "Leakage",
            [*attacks, *rates, ("Who is exposed", exposure_rows(audit, value["manifest"]["labels"]))],
        ),
        ("speed", "Speed", [(f"Cost, batch 1, {threads} thread(s)", bench_rows(value["bench"]))]),
        *([("device", "On the device", devices)] if devices else []),
        ("size", "Size", by_layer + ([("Kernels by layer", kernel_rows(kernels))] if kernels else [])),
    ]


def _device_tables(value: dict[str, Any]) -> list[tuple[str, Rows]]:
    """What the file costs on a device, and whether its answers there change what an attacker finds."""
    tables: list[tuple[str, Rows]] = []
    if there := value.get("device_bench"):
        tables.append((device_sentence(there), device_bench_rows(there)))
        tables += [(title or "Checks of the timing there", rows) for title, rows in device_tables(there)]
    if on_device := value["audit"].get("on_device"):
        title = on_device_title(on_device).capitalize()
        tables += [(f"{title}: {GROUPS[group]}", on_device_rows(on_device, group)) for group in _groups(value)]
    return tables


def _content(value: dict[str, Any]) -> dict[str, Any]:
    audit, manifest, bench = value["audit"], value["manifest"], value["bench"]
    verdict, kernels = audit["verdict"], manifest["storage"].get("kernels")
    skipped = audit["subjects"]["artifact"]["skipped"]
    findings = [
        {
            "question": ASKED[found["question"]],
            "answer": ANSWERS[found["verdict"]] + ".",
            "outcome": found["verdict"],
            "plain": in_plain_words(found, index),
            "sentence": f"{found['sentence']} {(more := advice(found, audit['data'], verdict['power']))}".rstrip(),
            "advice": more,
        }
        for index, found in enumerate(verdict["findings"])
    ]
    findings.sort(key=lambda finding: -SEVERITY[finding["outcome"]])
    overall = worst([verdict["overall"], *(gate["outcome"] for gate in audit["gates"])])
    return {
        "overall": overall,
        "safe": SAFE[overall],
        "verdict": verdict,
        "findings": findings,
        "gates": audit["gates"],
        "costs": list(costs(value)),
        "sections": _sections(value),
        "intervals": INTERVALS,
        "which_interval": WHICH_INTERVAL,
        "sparsity": sparsity_sentence(manifest["sparsity"]),
        "made_by": [
            *made_by(manifest["lineage"]),
            stored_as(manifest),
            *([kernels_sentence(kernels)] if kernels else []),
        ],
        "detectable": power_sentences(verdict),
        "not_tried": [short for short, _ in not_tried(audit["effort"], skipped)],
        "not_tested": not_tested(audit["effort"], skipped),
        "findings_beside": [*epsilon_sentences(audit), exposed_sentence(audit)],
        "notes": audit["notes"] + ([] if bench["valid"] else [f"Timings: {bench['note']}"]),
        "manifest": manifest,
        "data": audit["data"],
        "machine": bench["machine"],
    }
