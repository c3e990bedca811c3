"""The experiment of arXiv 2008.13578, on the exported file: models x methods x sparsities x defences x seeds.

    python benchmarks/paper.py NAME [--dataset npz:PATH] [--models lenet5,resnet8] [--jobs 2] [--runs DIR]

Every model is trained, pruned, exported to ONNX and attacked through ONNX Runtime with the loss attack, fixed
beforehand. A seed draws data, canaries and initial weights anew; all cases of a seed share its dense model, so cases
are compared in pairs. Resumable: finished steps are reused. ``publish.py`` makes the tables and the figure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from record import record
from seeds import Interval, difference, interval, outcome

from mobileprune.api import configure, context
from mobileprune.audit.matched import Point, at_accuracy
from mobileprune.pipeline.context import Context

Options = dict[str, Any]
Runs = dict[str, list[dict[str, float]]]

MODELS: dict[str, Options] = {  # the slowest first, so that no process waits long for another at the end
    "mobilenetv2 x0.25": {
        "model": "mobilenetv2",
        "width_mult": 0.25,
        "members": 2000,
        "epochs": 40,
        "batch_size": 32,
        "lr": 3e-3,
        "atol": 1e-2,  # its activations can be large: the file differed by 0.0024 with DP-SGD, by 0.0013 at 95 %
    },
    "resnet8": {"model": "resnet8", "members": 600, "epochs": 40, "batch_size": 32},
    "lenet5": {"model": "lenet5", "members": 1000, "epochs": 60},
}
for _options in MODELS.values():
    _options |= dict.fromkeys(("prune_epochs", "retrain_epochs"), _options["epochs"] // 2)
DENSE: dict[str, Options] = {
    "baseline": {},
    "early stopping": {"train_defense": "early-stopping:5"},
    "Min-Max": {"train_defense": "minmax:1"},
    "PPB": {"train_defense": "ppb:4"},
    "DP-SGD": {"train_defense": "dpsgd:8", "norm": "group"},
    "cross-fitting": {"train_defense": "crossfit:5"},
}
PRUNED: dict[str, Options] = {
    "magnitude": {"method": "magnitude"},
    "magnitude & early stopping": {"method": "magnitude", "defense": "early-stopping:5"},
    "MIA-Pruning": {"method": "mia"},
    "MIA-Pruning & Min-Max": {"method": "mia", "defense": "minmax:1"},
    "MIA-Pruning & cross-fitting": {"method": "mia", "defense": "crossfit:5"},
}
ATTACK = "loss"  # one attack fixed beforehand: the best of several would favour noise
TOLERANCE = 0.02  # how much accuracy below the baseline still counts as competitive


def cases(sparsities: list[float]) -> dict[str, Options]:
    """Name -> options: every dense network, then every pruned one at every sparsity."""
    pruned = {f"{name}, {s:g}": {**options, "sparsity": s} for name, options in PRUNED.items() for s in sparsities}
    return DENSE | pruned


def one(options: Options, ctx: Context) -> dict[str, float]:
    """The numbers of one exported file."""
    from mobileprune.audit.compare import measure
    from mobileprune.bench import file_size
    from mobileprune.evaluate import ask, of_artifact
    from mobileprune.pipeline.export import export
    from mobileprune.pipeline.inputs import splits_of
    from mobileprune.pipeline.prune import prune
    from mobileprune.pipeline.train import train

    config = configure(**options)
    model = train(config, ctx)
    artifact = export(prune(model, config, ctx) if "sparsity" in options else model, config, ctx)
    subject = ask(of_artifact("artifact", artifact, ctx), splits_of(config), ctx)
    found, zeros = measure(subject.scores), artifact.manifest.sparsity
    everyone, canaries = found["all"][ATTACK], found["canaries"][ATTACK]
    values = {
        "test_accuracy": subject.test_accuracy,
        "member_accuracy": subject.outputs.accuracy(member=True),
        "attack_accuracy": everyone.balanced_accuracy.value,
        "auc": everyone.auc.value,
        "tpr_at_1pct_fpr": everyone.tpr_at_1pct_fpr.value,
        "canary_auc": canaries.auc.value,
        "compression": zeros["all_total"] / (zeros["all_total"] - zeros["all_zeros"]),
        "deflated_bytes": file_size(artifact.model_path).deflated_bytes,
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def group(task: tuple[str, int, Options, dict[str, Options], Path | None]) -> tuple[str, Runs]:
    """All cases of one model and seed, in a process of its own."""
    model, seed, common, wanted, runs = task
    ctx, found = context(runs), Runs()
    for name, case in wanted.items():
        found[name] = [one({**common, **MODELS[model], **case, "seed": seed}, ctx)]
        print(json.dumps({"model": model, "seed": seed, "case": name, **rounded(found[name][0])}), flush=True)
    return model, found


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def claims(found: Runs, sparsities: list[float]) -> list[dict[str, Any]]:
    """Each of the paper's orderings at each sparsity, by paired differences over seeds."""
    rows = []

    def add(words: str, a: str, b: str) -> None:
        if not {a, b} <= found.keys():
            return
        compared = {m: _differ(found, a, b, m) for m in ("attack_accuracy", "canary_auc", "test_accuracy")}
        rows.append(
            {"claim": words, "a": a, "b": b, "difference": compared, "outcome": outcome(compared["attack_accuracy"])}
        )

    for s in sparsities:
        names = ("MIA-Pruning", "MIA-Pruning & Min-Max", "MIA-Pruning & cross-fitting", "magnitude & early stopping")
        pruned, game, crossfit, plain = (f"{name}, {s:g}" for name in names)
        add("lower attack accuracy than the baseline", pruned, "baseline")
        add("lower attack accuracy than Min-Max", pruned, "Min-Max")
        add("Min-Max on top lowers it further", game, pruned)
        add("lower than magnitude pruning with early stopping (our question)", pruned, plain)
        add("cross-fitting lower than that (our method)", crossfit, plain)
        add("cross-fitting lower than early stopping without pruning", crossfit, "early stopping")
    return rows


def _differ(found: Runs, a: str, b: str, metric: str) -> Interval:
    return difference(*([run[metric] for run in found[name]] for name in (a, b)))


def matched(found: Runs, sparsities: list[float]) -> dict[str, Any]:
    """For each method the sparsest model at most TOLERANCE less accurate than the baseline, by means over seeds."""

    def mean(case: str, metric: str) -> float:
        return interval([run[metric] for run in found[case]])["mean"]

    least = mean("baseline", "test_accuracy") - TOLERANCE
    chosen: dict[str, Any] = {}
    for name in filter(found.__contains__, DENSE):
        good = mean(name, "test_accuracy") >= least
        chosen[name] = _row(0.0, mean, name) if good else None
    for name in PRUNED:
        there = [(s, case) for s in sparsities if (case := f"{name}, {s:g}") in found]
        if not there:
            continue
        points = [Point(s, mean(case, "test_accuracy"), mean(case, "auc")) for s, case in there]
        point = at_accuracy(points, least)
        chosen[name] = _row(point.sparsity, mean, f"{name}, {point.sparsity:g}") if point else None
    return {"least_accuracy": least, "chosen": chosen}


def _row(sparsity: float, mean: Any, case: str) -> dict[str, float]:
    return {
        "sparsity": sparsity,
        **{m: mean(case, m) for m in ("test_accuracy", "attack_accuracy", "auc", "canary_auc")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the result, such as cifar10-jpeg")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--canaries", type=float, default=0.1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sparsities", default="0.7,0.9,0.95")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (at least 2)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--runs", type=Path, help="run store")
    args = parser.parse_args()
    models = [model for model in MODELS if model in args.models.split(",")]
    sparsities = [float(s) for s in args.sparsities.split(",")]
    common = {name: getattr(args, name) for name in ("dataset", "canaries")}
    common |= {"data_dir": args.data_dir} if args.data_dir else {}
    wanted = cases(sparsities)
    found: dict[str, Runs] = {model: {name: [] for name in wanted} for model in models}
    tasks = [(model, seed, common, wanted, args.runs) for model in models for seed in range(args.seeds)]
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        groups = [pool.submit(group, task) for task in tasks]
        for each in wait(groups, return_when=FIRST_EXCEPTION).done:
            if error := each.exception():
                print(f"failed, and what has not begun is cancelled: {error}", flush=True)
                pool.shutdown(wait=False, cancel_futures=True)
        for model, part in (each.result() for each in groups):  # in order, so that runs stay paired by seed
            for name, runs in part.items():
                found[model][name] += runs
    result = {
        model: {
            "summary": {case: {m: interval([r[m] for r in rows]) for m in rows[0]} for case, rows in runs.items()},
            "claims": claims(runs, sparsities),
            "matched": matched(runs, sparsities),
            "runs": runs,
        }
        for model, runs in found.items()
    }
    common["dataset"] = args.name  # no path of this machine
    common.pop("data_dir", None)
    networks = {model: MODELS[model] for model in models}
    value = {"attack": ATTACK, "seeds": args.seeds, "common": common, "networks": networks, "cases": wanted}
    print(record(f"paper-{args.name}", {**value, "models": result}))


if __name__ == "__main__":
    main()
