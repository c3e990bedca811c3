"""An audit in a screenful of Markdown, for a comment on a pull request or the summary of a CI job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobileprune.audit.gates import worst
from mobileprune.audit.verdict import GROUPS, QUESTIONS
from mobileprune.report.markdown import framed, line, table, text
from mobileprune.report.tables import SUBJECTS, Rows, estimate, percent, tested


def summary(audit: Mapping[str, Any], name: str, bench: Mapping[str, Any] | None = None) -> str:
    """``audit``: the JSON value of an audit, with ``verdict`` and ``gates``; ``name`` of what was audited."""
    verdict, gates = audit["verdict"], audit["gates"]
    decided = [(f["verdict"], QUESTIONS[f["question"]], f["sentence"]) for f in verdict["findings"]]
    decided += [(gate["outcome"], gate["name"], gate["sentence"]) for gate in gates]
    overall = worst(outcome for outcome, *_ in decided)
    lines = [f"## mobileprune: {overall}", "", f"`{_code(name)}`", ""]
    outcomes = [(f"**{o}**" if o != "pass" else o, text(words), text(sentence)) for o, words, sentence in decided]
    lines += framed([("", "limit", ""), *outcomes])
    lines += ["", *table(_numbers(audit, bench or {}))]
    lines += ["", *(f"- {line(note)}" for note in audit["notes"])] if audit["notes"] else []
    return "\n".join([*lines, "", line(verdict["caveat"])]) + "\n"


def _numbers(audit: Mapping[str, Any], bench: Mapping[str, Any]) -> Rows:
    """Headings, and accuracy, the strongest attack and costs of every model side by side."""
    subjects = {name: audit["subjects"][name] for name in SUBJECTS if name in audit["subjects"]}
    rows: Rows = []
    rows.append((tested(audit["data"]), *(percent(subject["test_accuracy"]) for subject in subjects.values())))
    rows.append(("accuracy on members", *(f"{s['accuracy']['members']:.1%}" for s in subjects.values())))
    for group, words in GROUPS.items():
        if group in subjects["artifact"]["measurements"]:
            best = [subject["strongest"][group] for subject in subjects.values()]
            names = [" / ".join(dict.fromkeys(found["chosen"])) for found in best]
            cells = (f"{estimate(found['auc'])} ({name})" for found, name in zip(best, names, strict=True))
            rows.append((f"attack AUC, {words}", *cells))
    costs = {"dense": bench.get("baseline"), "artifact": bench.get("artifact")}
    if costs["artifact"]:
        sizes = [f"{c['size_bytes']:,}" if (c := costs.get(name)) else "-" for name in subjects]
        times = [f"{c['latency_ms']['p50']:.3f}" if (c := costs.get(name)) else "-" for name in subjects]
        valid = "" if bench["valid"] else " (not valid: the machine was busy)"
        rows += [("file size, bytes", *sizes), (f"latency p50, ms{valid}", *times)]
    words_of = {**SUBJECTS, "artifact": "model"} if "model" in audit else SUBJECTS
    return [("", *(words_of[name] for name in subjects)), *rows]


def _code(text: str) -> str:
    """One line inside backticks."""
    return " ".join(text.replace("`", "'").split())
