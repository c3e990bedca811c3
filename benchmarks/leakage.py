"""What pruning does to leakage: dense, magnitude, MIA-Pruning and MIA-Pruning & Min-Max on digits, over seeds.

    python benchmarks/leakage.py [--seeds 5] [--runs DIR]

Every model goes the whole way: trained, pruned, exported to ONNX and attacked through ONNX Runtime. A seed
draws the split, the canaries and the initial weights anew, and all cases of one seed share its dense model, so
cases are compared in pairs. All methods retrain for equally long, once 30 and once 60 epochs, because retraining
turned out to decide as much as the method. Resumable: finished steps are reused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from record import record
from seeds import difference, interval, outcome

from mobileprune.api import configure, context
from mobileprune.audit.compare import measure
from mobileprune.evaluate import ask, of_artifact
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.inputs import splits_of
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train

LAMBDA = 1.0  # 3 and 10 cost 8 and 12 points of test accuracy in a trial
METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude"},
    "MIA-Pruning": {"method": "mia"},
    "MIA-Pruning & Min-Max": {"method": "mia", "defense": f"minmax:{LAMBDA:g}"},
}
VARIANTS = [(sparsity, epochs) for sparsity in (0.9, 0.95) for epochs in (30, 60)]


def label(name: str, sparsity: float, epochs: int) -> str:
    return f"{name}, {sparsity:g}, {epochs} epochs"


CASES: dict[str, dict[str, Any] | None] = {
    "dense": None,
    **{
        label(name, sparsity, epochs): {**options, "sparsity": sparsity, "retrain_epochs": epochs}
        for sparsity, epochs in VARIANTS
        for name, options in METHODS.items()
    },
}
CLAIMS = {
    "MIA-Pruning leaks less than the dense baseline": ("MIA-Pruning", "dense"),
    "MIA-Pruning & Min-Max leaks less than MIA-Pruning": ("MIA-Pruning & Min-Max", "MIA-Pruning"),
    "MIA-Pruning leaks less than magnitude pruning": ("MIA-Pruning", "magnitude"),
}
ATTACK = "loss"  # one attack fixed beforehand: the best of several would favour noise
METRICS = ("test_accuracy", "canary_auc", "canary_attack_accuracy", "auc", "attack_accuracy", "deflated_bytes")


COMPARED = ("canary_auc", "attack_accuracy", "test_accuracy")


def one(case: dict[str, Any] | None, seed: int, ctx: Context) -> dict[str, float]:
    """The numbers of one exported file."""
    from mobileprune.bench import file_size

    config = configure(seed=seed, **(case or {}))
    model = train(config, ctx)
    artifact = export(prune(model, config, ctx) if case else model, config, ctx)
    subject = ask(of_artifact("artifact", artifact, ctx), splits_of(config), ctx)
    found = measure(subject.scores)
    everyone, canaries = found["all"][ATTACK], found["canaries"][ATTACK]
    values = (
        subject.test_accuracy,
        canaries.auc.value,
        canaries.balanced_accuracy.value,
        everyone.auc.value,
        everyone.balanced_accuracy.value,
        file_size(artifact.model_path).deflated_bytes,
    )
    return {name: float(value) for name, value in zip(METRICS, values, strict=True) if value is not None}


def claims(found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Each ordering in each variant, by paired differences over seeds: held if that of canary AUC is surely below 0."""
    rows = []
    for words, (less, more) in CLAIMS.items():
        for variant in VARIANTS:
            a, b = (found[name if name == "dense" else label(name, *variant)] for name in (less, more))
            differences = {m: difference([x[m] for x in a], [y[m] for y in b]) for m in COMPARED}
            sparsity, epochs = variant
            decided = outcome(differences[COMPARED[0]])
            rows.append({"claim": words, "sparsity": sparsity, "retrain_epochs": epochs, "outcome": decided})
            rows[-1]["difference"] = differences
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (at least 2)")
    parser.add_argument("--runs", type=Path, help="run store")
    args = parser.parse_args()
    ctx = context(args.runs)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for seed in range(args.seeds):
        for name, case in CASES.items():
            found[name].append(one(case, seed, ctx))
            print(f"seed {seed}  {name:<30}", {k: round(v, 3) for k, v in found[name][-1].items()}, flush=True)
    summary = {n: {m: interval([r[m] for r in rows]) for m in METRICS} for n, rows in found.items()}
    decided = claims(found)
    path = record(
        "leakage",
        {"attack": ATTACK, "cases": CASES, "seeds": args.seeds, "summary": summary, "claims": decided, "runs": found},
    )
    for row in decided:
        d = row["difference"]["canary_auc"]
        words = f"{row['claim']}: {row['sparsity']:g}, {row['retrain_epochs']} epochs"
        print(f"{row['outcome']:<13} {d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]  {words}")
    print(path)


if __name__ == "__main__":
    main()
