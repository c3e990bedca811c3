"""HTML and Markdown from the same tables. Every value is escaped; the HTML asks for nothing outside itself."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Any

import jinja2

from mobileprune.report.device import (
    device_bench_rows,
    device_sentence,
    device_tables,
    on_device_rows,
    on_device_title,
)
from mobileprune.report.roc import Panel, panel
from mobileprune.report.tables import (
    GROUPS,
    Rows,
    attack_rows,
    bench_rows,
    epsilon_sentences,
    exposed_sentence,
    exposure_rows,
    kernel_rows,
    kernels_sentence,
    layer_rows,
    made_by,
    power_sentences,
    rate_rows,
    sparsity_sentence,
    stored_as,
    summary_rows,
)

ANSWERS = {"pass": "Yes, within what was tested", "fail": "No", "inconclusive": "It cannot be said"}
QUESTIONS = {
    "deployment": "Did conversion and export keep leakage where it was?",
    "ceiling": "Is leakage over all members under the ceiling?",
    "canary_ceiling": "Is leakage on canaries (wrongly labelled members) under the ceiling?",
}
NOT_TRIED = {
    "references": "attackers who train reference models (LiRA, RMIA), stronger than the attacks here: --references 16",
    "queries": "attackers who ask about changed copies of an image: --queries 20",
    "versions": "attackers who hold several versions of the model: --versions PATH",
}
FILE = "attackers who read the weights out of the file: --access file"
OTHERS = "other hardware and runtimes than the machine named below"


def html(value: dict[str, Any]) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("mobileprune.report").joinpath("report.html.j2").read_text("utf-8"))
    return template.render(**_content(value))


def markdown(value: dict[str, Any]) -> str:
    content = _content(value)
    lines = [f"# mobileprune report: {content['overall']}", "", content["verdict"]["sentence"], ""]
    lines += [f"- {f['question']} **{f['answer']}** {f['sentence']}" for f in content["findings"]]
    lines += [f"- **{gate['outcome']}** {_plain(gate['sentence'])}" for gate in content["gates"]]
    for title, rows in content["tables"]:
        lines += ["", f"## {title}", "", *_markdown_table(rows)]
    lines += ["", *(f"- {_plain(item)}" for item in content["findings_beside"])]
    lines += ["", "## Not tested", "", *(f"- {_plain(item)}" for item in (*content["not_tested"], *content["notes"]))]
    lines += ["", "## Made by", "", *(f"- {_plain(item)}" for item in content["made_by"])]
    lines += ["", content["verdict"]["caveat"], "", f"Artifact sha256 `{value['manifest']['sha256']}`."]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """One line that Markdown shows as it is."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _markdown_table(rows: Rows) -> list[str]:
    text = ["| " + " | ".join(map(_plain, row)) + " |" for row in rows]
    return [text[0], "|" + " --- |" * len(rows[0]), *text[1:]]


def not_tested(effort: dict[str, Any]) -> list[str]:
    """What the attacker of this audit did not try, and the option that makes them try it."""
    untouched = {"references": 0, "queries": 1, "versions": 0}
    tried = [words for name, words in NOT_TRIED.items() if effort[name] == untouched[name]]
    return [*tried, *([] if effort["access"] == "file" else [FILE]), OTHERS]


def _content(value: dict[str, Any]) -> dict[str, Any]:
    audit, manifest = value["audit"], value["manifest"]
    verdict = audit["verdict"]
    present = [group for group in GROUPS if group in audit["subjects"]["artifact"]["measurements"]]
    threads = value["bench"]["num_threads"]
    tables: list[tuple[str, Rows]] = [
        ("Before and after", summary_rows(value)),
        *((f"Every attack: {GROUPS[group]}", attack_rows(audit, group)) for group in present),
        *((f"The exported file: {GROUPS[group]}", rate_rows(audit, group)) for group in present),
        ("Who is exposed", exposure_rows(audit)),
        (f"Cost, batch 1, {threads} thread(s)", bench_rows(value["bench"])),
        ("Sparsity by layer", layer_rows(value)),
    ]
    if there := value.get("device_bench"):
        tables.append((device_sentence(there), device_bench_rows(there)))
        tables += [(title or "Checks of the timing there", rows) for title, rows in device_tables(there)]
    if on_device := audit.get("on_device"):
        title = on_device_title(on_device).capitalize()
        tables += [(f"{title}: {GROUPS[group]}", on_device_rows(on_device, group)) for group in present]
    kernels = manifest["storage"].get("kernels")
    if kernels:
        tables.append(("Kernels by layer", kernel_rows(kernels)))
    findings = [
        {
            "question": QUESTIONS[f["question"]],
            "answer": ANSWERS[f["verdict"]] + ".",
            "outcome": f["verdict"],
            "sentence": f["sentence"],
        }
        for f in verdict["findings"]
    ]
    panels: list[tuple[str, Panel]] = [(GROUPS[group], panel(audit["subjects"], group)) for group in present]
    return {
        "overall": verdict["overall"],
        "verdict": verdict,
        "findings": findings,
        "tables": tables,
        "panels": panels,
        "sparsity": sparsity_sentence(manifest["sparsity"]),
        "made_by": [
            *made_by(manifest["lineage"]),
            stored_as(manifest),
            *([kernels_sentence(kernels)] if kernels else []),
        ],
        "gates": audit["gates"],
        "detectable": power_sentences(verdict),
        "not_tested": not_tested(audit["effort"]),
        "findings_beside": [*epsilon_sentences(audit), exposed_sentence(audit)],
        "notes": audit["notes"] + ([] if value["bench"]["valid"] else [f"Timings: {value['bench']['note']}"]),
        "manifest": manifest,
        "data": audit["data"],
        "machine": value["bench"]["machine"],
        "steps": value["steps"],
    }
