"""The newest result of ``paper.py`` as tables and a figure: results/paper-NAME.md and .svg.

python benchmarks/publish_paper.py NAME
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import jinja2
from publish import cell, table
from record import RESULTS

SIZE, GAP, LEFT, TOP = 230, 52, 62, 84
COLOURS = (
    ("grey", "#57606a", "#9da7b1"),
    ("orange", "#bc4c00", "#ffa657"),
    ("blue", "#0a6ebd", "#79c0ff"),
    ("purple", "#8250df", "#d2a8ff"),
    ("green", "#1a7f37", "#56d364"),
)
LINES = {
    "magnitude": "orange",
    "MIA-Pruning": "blue",
    "MIA-Pruning & Min-Max": "purple",
    "MIA-Pruning & cross-fitting": "green",
}
METRICS = {
    "test_accuracy": "test accuracy",
    "attack_accuracy": "attack accuracy",
    "auc": "AUC",
    "tpr_at_1pct_fpr": "TPR at 1 % FPR",
    "canary_auc": "canary AUC",
}


def scale(value: float, low: float, high: float, *, flip: bool = False) -> float:
    share = (value - low) / (high - low)
    return round(SIZE * (1 - share if flip else share), 1)


def panel(index: int, name: str, summary: dict[str, Any]) -> dict[str, Any]:
    accuracies = [s["test_accuracy"]["mean"] for s in summary.values()]
    low, high = int(min(accuracies) * 20) / 20, (int(max(accuracies) * 20) + 1) / 20

    def mark(case: str, colour: str, radius: float) -> dict[str, Any]:
        accuracy, auc = (summary[case][m]["mean"] for m in ("test_accuracy", "auc"))
        place = {"x": scale(accuracy, low, high), "y": scale(auc, 0.5, 1.0, flip=True)}
        return {**place, "colour": colour, "r": radius, "title": f"{case}: accuracy {accuracy:.3f}, AUC {auc:.3f}"}

    marks, lines = [mark(case, "grey", 5) for case in summary if "," not in case], []
    for method, colour in LINES.items():
        found = [mark(case, colour, 4) for case in summary if case.rpartition(", ")[0] == method]
        marks += found
        lines.append({"colour": colour, "path": "M" + "L".join(f"{m['x']} {m['y']}" for m in found)})
    ticks = [tick / 20 for tick in range(round(low * 20), round(high * 20) + 1)]
    return {
        "x": LEFT + index * (SIZE + GAP),
        "name": name,
        "marks": marks,
        "lines": lines,
        "x_ticks": [(scale(t, low, high), f"{t:.2f}") for t in ticks],
        "y_ticks": [(scale(t / 10, 0.5, 1.0, flip=True), f"{t / 10:.1f}") for t in range(5, 11)],
    }


def drawing(value: dict[str, Any]) -> str:
    panels = [panel(i, name, found["summary"]) for i, (name, found) in enumerate(sorted(value["models"].items()))]
    names = [("dense, also defended", "grey"), *LINES.items()]
    width = LEFT + len(panels) * (SIZE + GAP)
    key = [
        {"name": name, "colour": colour, "x": 20 + 190 * (i % 3), "y": TOP + SIZE + 52 + 20 * (i // 3), "r": 4}
        for i, (name, colour) in enumerate(names)
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string((RESULTS.parent / "paper.svg.j2").read_text()).render(
        title="Accuracy and leakage of the exported file: right and low is good",
        subtitle=f"{value['attack']} attack through ONNX Runtime (AUC 0.5: guessing); {value['seeds']} seeds; "
        "lines join sparsities 0.7, 0.9, 0.95",
        panels=panels,
        colours=COLOURS,
        key=key,
        size=SIZE,
        top=TOP,
        width=width,
        height=TOP + SIZE + 92,
    )


def cases(summary: dict[str, Any]) -> str:
    rows = [
        [name, *(cell(found[metric]) for metric in METRICS), f"{found['compression']['mean']:.1f}x"]
        for name, found in summary.items()
    ]
    return table(["exported file", *METRICS.values(), "compression"], rows)


def short(values: list[dict[str, Any]], sparsity: float = 0.9) -> str:
    """One line a method at one sparsity, one column a network, of each the last result: test accuracy / AUC / canary
    AUC."""
    found = {name: model["summary"] for value in values for name, model in value["models"].items()}

    def means(summary: dict[str, Any]) -> str:
        return " / ".join(f"{summary[metric]['mean']:.3f}" for metric in ("test_accuracy", "auc", "canary_auc"))

    names, rows = sorted(found), []
    for case in found[names[0]]:
        method, _, at = case.rpartition(", ")
        if not method or float(at) == sparsity:
            rows.append([case, *(means(found[name][case]) for name in names)])
    return table(["", *names], rows)


def claims(found: list[dict[str, Any]]) -> str:
    rows = []
    for one in found:
        cells = [cell(one["difference"][m], "+") for m in ("attack_accuracy", "canary_auc", "test_accuracy")]
        rows.append([one["claim"], f"{one['a']} - {one['b']}", *cells, f"**{one['outcome']}**"])
    return table(["ordering", "a - b", "attack accuracy", "canary AUC", "test accuracy", "outcome"], rows)


def matched(value: dict[str, Any]) -> str:
    shown = ("test_accuracy", "attack_accuracy", "auc", "canary_auc")
    rows = [
        [name, f"{row['sparsity']:g}", *(f"{row[m]:.3f}" for m in shown)] if row else [name, "none", *"----"]
        for name, row in value["chosen"].items()
    ]
    return table(["method", "sparsest that is accurate enough", *(METRICS[m] for m in shown)], rows)


def page(value: dict[str, Any]) -> str:
    parts = [
        f"# {value['common']['dataset']}: {value['seeds']} seeds, {value['attack']} attack on the exported file",
        "Means over seeds with Student's 95 % interval; differences are of pairs (same seed, same dense model), and an "
        "ordering held if that of attack accuracy is surely below 0. *Matched*: the sparsest model of each method that "
        "is at most 2 points less accurate than the baseline.",
    ]
    for name, found in sorted(value["models"].items()):
        network = ", ".join(f"{k} {v}" for k, v in value["networks"][name].items() if k != "model")
        parts += [f"## {name} ({network})", cases(found["summary"]).strip()]
        parts += ["### Orderings", claims(found["claims"]).strip()]
        parts += [
            f"### Matched: accuracy at least {found['matched']['least_accuracy']:.3f}",
            matched(found["matched"]).strip(),
        ]
    machine = ", ".join(f"{name} {text}" for name, text in value["machine"].items())
    return "\n\n".join([*parts, f"{value['date']}; {machine}"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the result, such as cifar10-jpeg")
    name = parser.parse_args().name
    value = json.loads(max(RESULTS.glob(f"*-paper-{name}.json")).read_text())
    (RESULTS / f"paper-{name}.svg").write_text(drawing(value))
    (RESULTS / f"paper-{name}.md").write_text(page(value))


if __name__ == "__main__":
    main()
