"""The newest leakage result as the README shows it: results/leakage.svg and results/leakage.md.

python benchmarks/publish.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
from record import RESULTS

LEFT, WIDTH, ROW, TOP = 280, 330, 30, 58
LOWEST = 0.4


def position(auc: float) -> float:
    return round(LEFT + WIDTH * (min(max(auc, LOWEST), 1.0) - LOWEST) / (1 - LOWEST), 1)


def drawing(value: dict[str, Any]) -> str:
    rows = []
    for index, (name, found) in enumerate(value["summary"].items()):
        auc, accuracy = found["canary_auc"], found["test_accuracy"]
        interval = {key: position(auc[key]) for key in ("mean", "low", "high")}
        rows.append({"name": name, "y": TOP + 20 + ROW * index, "accuracy": f"{accuracy['mean']:.1%}", **interval})
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((RESULTS.parent / "leakage.svg.j2").read_text())
    return template.render(
        title="How well an attacker recognises memorised images in the exported file",
        subtitle=f"canary AUC of the {value['attack']} attack through ONNX Runtime (0.5: guessing); mean and 95 % "
        f"interval over {value['seeds']} seeds",
        rows=rows,
        ticks=[(position(v / 10), f"{v / 10:.1f}") for v in range(4, 11)],
        left=LEFT,
        width=WIDTH,
        top=TOP,
        row=ROW,
    )


def cell(estimate: dict[str, float], sign: str = "") -> str:
    mean, low, high = (f"{estimate[key]:{sign}.3f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, *rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(head), *text[1:]]) + "\n"


def cases(value: dict[str, Any]) -> str:
    """Every case as a Markdown table."""
    head = ("exported file", "test accuracy", "canary AUC", "attack accuracy, all", "AUC, all", "deflated")
    rows = []
    for name, found in value["summary"].items():
        cells = [cell(found[key]) for key in ("test_accuracy", "canary_auc", "attack_accuracy", "auc")]
        rows.append([name, *cells, f"{found['deflated_bytes']['mean'] / 1024:.0f} KiB"])
    return table(head, rows)


def claims(value: dict[str, Any]) -> str:
    """Every ordering as a Markdown table."""
    head = ("ordering", "sparsity, retraining", "canary AUC", "attack accuracy, all", "test accuracy", "outcome")
    rows = []
    for row in value["claims"]:
        cells = [cell(row["difference"][m], "+") for m in ("canary_auc", "attack_accuracy", "test_accuracy")]
        variant = f"{row['sparsity']:g}, {row['retrain_epochs']} epochs"
        rows.append([row["claim"], variant, *cells, f"**{row['outcome']}**"])
    return table(head, rows)


def page(value: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {text}" for name, text in value["machine"].items())
    return (
        f"# Leakage: {value['seeds']} seeds, {value['attack']} attack on the exported file\n\n"
        f"Means over seeds with Student's 95 % interval.\n\n{cases(value)}\n"
        f"Differences of pairs (same seed, same dense model); an ordering held if that of canary AUC is surely below 0."
        f"\n\n{claims(value)}\n{value['date']}; {machine}\n"
    )


def main() -> None:
    value = json.loads(max(RESULTS.glob("*-leakage.json")).read_text())
    (RESULTS / "leakage.svg").write_text(drawing(value))
    (RESULTS / "leakage.md").write_text(page(value))


if __name__ == "__main__":
    main()
