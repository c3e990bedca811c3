"""How much more do attacks with reference models find than the loss attack, and what do they cost?

    python benchmarks/attacks.py --dataset npz:PATH [--models lenet5,resnet8] [--jobs 2] [--runs DIR]

For each network, dense and pruned to 90 %: reference pipelines (train, prune, export to ONNX, ask ONNX Runtime)
on members drawn anew. Each of them in turn is the target, attacked with 4, 8 and 16 of the others; its complement,
which would tell its members, is left out. Means over targets with Student's 95 % interval; targets share their
references, so the intervals are those of this pool of models. Writes results/attacks.md beside the JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, record
from seeds import interval

from mobileprune.api import configure, context
from mobileprune.attacks import ATTACKS, Evidence, Outputs, Population, References, score
from mobileprune.audit.auc import auc
from mobileprune.audit.rates import tpr_at_fpr
from mobileprune.data.splits import Splits
from mobileprune.engines import Engine
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.inputs import splits_of
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train
from mobileprune.shadows import Answers, Shadows, references

Options = dict[str, Any]
MODELS: dict[str, Options] = {
    "lenet5": {"model": "lenet5", "members": 1000, "epochs": 60, "prune_epochs": 30, "retrain_epochs": 30},
    "resnet8": {
        "model": "resnet8",
        "members": 500,
        "epochs": 20,
        "batch_size": 32,
        "prune_epochs": 10,
        "retrain_epochs": 10,
    },
}
MODELS["lenet5 & cross-fitting"] = {**MODELS["lenet5"], "defense": "crossfit:5"}
REFERENCES = {"lenet5": 16, "resnet8": 8, "lenet5 & cross-fitting": 8}
"""Those that take longer get fewer."""
COUNTS = (4, 8, 16)
PRUNED = "MIA-Pruning, 90 %"
KINDS = {"dense": "dense", "artifact": PRUNED}
COSTED = 2
"""References that are made once more, in an empty run store, to see what one costs."""


def outputs(shadows: Shadows, answers: Answers, splits: Splits, target: int, count: int) -> Outputs:
    """What an attacker of model ``target`` has, with the first ``count`` references that are not it or its twin."""
    others = [r for r in range(len(shadows.inside)) if r // 2 != target // 2][:count]
    asked = np.concatenate([splits.members, splits.held_out])
    evidence = Evidence(
        answers.examples[target],
        splits.labels[asked],
        references=References(
            [answers.examples[r] for r in others], shadows.inside[others], [answers.test[r] for r in others]
        ),
        population=Population(answers.test[target], splits.labels[splits.test], splits.images.pixels[splits.test]),
        images=splits.images.pixels[asked],
    )
    return Outputs(evidence, shadows.inside[target], splits.canary[asked])


def measured(found: Sequence[Outputs]) -> dict[str, dict[str, Any]]:
    """By attack: means over targets, and seconds of scoring all of them."""
    rows: dict[str, dict[str, Any]] = {}
    for name, attack in ATTACKS.items():
        started, values = time.process_time(), []
        for each in found:
            scores = score(each, {name: attack})
            if name in scores.by_attack:
                for group, part in scores.groups().items():
                    sides = part.sides(name)
                    values.append((group, auc(*sides).value, tpr_at_fpr(*sides, fpr=0.01).value))
        if values:
            seconds = (time.process_time() - started) / len(found)
            areas = {g: interval([a for group, a, _ in values if group == g]) for g in ("all", "canaries")}
            rates = interval([rate for group, _, rate in values if group == "all"])
            rows[name] = {"auc": areas["all"], "canary_auc": areas["canaries"], "tpr": rates, "seconds": seconds}
    return rows


def network(options: Options, count: int, jobs: int, ctx: Context) -> dict[str, Any]:
    config = configure(method="mia", sparsity=0.9, **options)
    artifact = export(prune(train(config, ctx), config, ctx), config, ctx)
    shadows = references(artifact, count + 2, {"dataset": config.data.dataset}, ctx, Engine(jobs=jobs))
    with tempfile.TemporaryDirectory() as empty:
        started = time.process_time()
        references(artifact, COSTED, {"dataset": config.data.dataset}, context(empty))
        minutes = (time.process_time() - started) / 60 / COSTED
    splits, rows = splits_of(config), {}
    for kind in KINDS:
        for used in [n for n in COUNTS if n <= count]:
            targets = range(count + 2)
            found = measured([outputs(shadows, shadows.answers[kind], splits, t, used) for t in targets])
            rows[f"{kind} {used}"] = found
    accuracy = {
        kind: interval([float((each.argmax(1) == splits.labels[splits.test]).mean()) for each in answers.test])
        for kind, answers in shadows.answers.items()
    }
    return {"options": options, "models": count + 2, "cpu_minutes": minutes, "test_accuracy": accuracy, "rows": rows}


def columns(value: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(words, kind, result of the network): the dense network of a defence while pruning is the undefended one's."""
    return [
        (f"{name}, {words}", kind, found)
        for name, found in value["networks"].items()
        for kind, words in KINDS.items()
        if kind == "artifact" or "defense" not in found["options"]
    ]


def cell(value: dict[str, float], digits: int = 3) -> str:
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def page(value: dict[str, Any]) -> str:
    title, _, *rest = (__doc__ or "").split("\n\n")
    lines = [f"# {title}", "", rest[0].strip()]
    for words, kind, found in columns(value):
        keys = [f"{kind} {used}" for used in COUNTS if f"{kind} {used}" in found["rows"]]
        counts, rows = [key.split()[1] for key in keys], [found["rows"][key] for key in keys]
        lines += ["", f"## {words}: test accuracy {cell(found['test_accuracy'][kind])}", ""]
        heads = [f"TPR at 1% FPR, {n}" for n in counts] + [f"AUC, {n}" for n in counts]
        last = f"canary AUC, {counts[-1]}", "CPU s"
        lines += [f"| attack, references | {' | '.join((*heads, *last))} |", "|---" * (len(heads) + 3) + "|"]
        for attack in rows[-1]:
            cells = [cell(row[attack]["tpr"]) for row in rows] + [f"{row[attack]['auc']['mean']:.3f}" for row in rows]
            more = cell(rows[-1][attack]["canary_auc"]), f"{rows[-1][attack]['seconds']:.2f}"
            lines.append(f"| {attack} | {' | '.join((*cells, *more))} |")
        cost = f"One reference costs {found['cpu_minutes']:.2f} CPU minutes; {found['models']} models were made."
        lines += ["", cost]
    machine = ", ".join(f"{key} {text}" for key, text in value["machine"].items())
    return "\n".join([*lines, "", f"{value['date']}; {machine}"]) + "\n"


SHORT = ("loss", "lira_online_fixed", "rmia_online", "base", "bavaria")


def short(value: dict[str, Any]) -> str:
    """The README's table: TPR at 1 % FPR (AUC) with the most references."""
    found = [(words, kind, each["rows"]) for words, kind, each in columns(value)]
    most = [rows[f"{kind} {max(n for n in COUNTS if f'{kind} {n}' in rows)}"] for _, kind, rows in found]
    heads = [words for words, _, _ in found]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for attack in SHORT:
        cells = [f"{row[attack]['tpr']['mean']:.1%} ({row[attack]['auc']['mean']:.2f})" for row in most]
        lines.append(f"| `{attack}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="npz:PATH of the CIFAR-10 copy (cifar10_jpeg.py makes it)")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, help="run store")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        ctx, found = context(args.runs or temporary), {}
        for name in args.models.split(","):
            options = {**MODELS[name], "dataset": args.dataset, "canaries": 0.1}
            found[name] = network(options, REFERENCES[name], args.jobs, ctx)
            found[name]["options"] |= {"dataset": Path(args.dataset).name}
            path = record("attacks", {"networks": found})
            (RESULTS / "attacks.md").write_text(page(json.loads(path.read_text())))
            print(name, {k: round(v["rmia"]["tpr"]["mean"], 3) for k, v in found[name]["rows"].items()}, flush=True)
    print(path)


if __name__ == "__main__":
    main()
