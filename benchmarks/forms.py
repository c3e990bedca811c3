"""What each form, precision and target makes of the same pruned network: bytes, accuracy, parity, load time, speed.

    python benchmarks/forms.py [--networks lenet5,mobilenetv2] [--targets onnx,...] [--runs DIR]

Every network is trained on scikit-learn's digits, scaled to the size it is made for, for a few epochs: enough for
weights that are not noise. It is pruned to 90 % by magnitude and retrained. Latency is of one image and one thread,
interleaved with the dense float32 ONNX file of the same pruned network. What is not installed is reported as that.
Writes results/forms.md beside the JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, record

from mobileprune.api import configure, context
from mobileprune.artifact import Artifact
from mobileprune.bench import bench
from mobileprune.errors import MobilepruneError
from mobileprune.evaluate import ask, of_artifact
from mobileprune.export import TARGETS
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.inputs import splits_of
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train

Options = dict[str, Any]
NETWORKS: dict[str, tuple[int, Options]] = {
    "lenet5": (28, {"members": 599, "epochs": 40, "retrain_epochs": 20}),
    "vgg16_bn": (32, {"members": 500, "epochs": 6, "retrain_epochs": 4}),
    "resnet18": (64, {"members": 500, "epochs": 4, "retrain_epochs": 3}),
    "mobilenetv2": (224, {"members": 200, "epochs": 4, "retrain_epochs": 4, "batch_size": 16, "lr": 3e-3}),
}
"""Name -> side of the images, options."""
CHANNELS: Options = {"pattern": "channel", "channel_ratio": 0.5}
ATOL = 1e-3
"""Trained for so short a time, networks have a few huge activations; what parity finds is in the table."""


def digits(side: int, folder: Path) -> str:
    """A data set of three equal channels."""
    import torch
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images / 16).float()[:, None]
    large = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    pixels = (255 * large.expand(-1, 3, -1, -1)).round().byte().permute(0, 2, 3, 1).numpy()
    path = folder / f"digits-{side}.npz"
    np.savez(path, images=pixels, labels=load_digits().target)
    return f"npz:{path}"


LEFT_OUT = [
    ("onnx", "fp16", "dense"),
    ("onnx", "fp16", "coo"),
    ("onnx", "int8", "coo"),
    ("ort", "fp16"),
    ("ort", "int8", "coo"),
]
"""Cases, or the beginnings of their names, that add nothing to the others."""


def cases(targets: list[str]) -> list[tuple[str, str, str]]:
    """(target, precision, form)"""
    every = [(name, p, f) for name in targets for p in TARGETS[name].precisions for f in TARGETS[name].forms]
    return [case for case in every if not any(case[: len(left)] == left for left in LEFT_OUT)]


def examine(artifact: Artifact, reference: Artifact, splits: Any, ctx: Context) -> dict[str, Any]:
    measured = bench(artifact, reference, num_threads=1)
    manifest = artifact.manifest
    return {
        "storage": manifest.storage,
        "parity": manifest.parity,
        "test_accuracy": ask(of_artifact("artifact", artifact, ctx), splits, ctx).test_accuracy,
        "bench": measured.to_dict() | {"machine": None},
    }


def network(name: str, side: int, options: Options, targets: list[str], folder: Path, ctx: Context) -> dict[str, Any]:
    common = {"model": name, "canaries": 0.0, "method": "magnitude", "sparsity": 0.9, "atol": ATOL, **options}
    common["dataset"] = "digits" if name == "lenet5" else digits(side, folder)
    config = configure(**common)
    splits, dense = splits_of(config), train(config, ctx)
    pruned = prune(dense, config, ctx)
    plain = configure(**common, sparse_format="dense")
    reference = export(pruned, plain, ctx)
    halved = prune(dense, configure(**{**common, "sparsity": 0.0, **CHANNELS}), ctx)
    wanted = [(f"{t} {p} {f}", pruned, {"target": t, "precision": p, "sparse_format": f}) for t, p, f in cases(targets)]
    wanted += [(f"onnx {p} half the channels", halved, {"precision": p}) for p in TARGETS["onnx"].precisions]
    rows: dict[str, Any] = {}
    for words, folder_of_model, how in wanted:
        try:
            made = export(folder_of_model, configure(**common, **how), ctx)
        except MobilepruneError as error:
            rows[words] = {"refused": str(error).partition(";")[0]}
            continue
        rows[words] = examine(made, reference, splits, ctx)
        print(name, words, made.manifest.size_bytes, flush=True)
    return {"side": side, "options": options, "parameters": pruned.info.sparsity["all_total"], "rows": rows}


def line(name: str, key: str, row: dict[str, Any], before: int) -> str:
    if "refused" in row:
        return f"| {name} | {key} | {row['refused'].replace('|', '/')} | | | | | | | |"
    costs, storage, parity, ratio = (row["bench"]["artifact"], row["storage"], row["parity"], row["bench"]["speedup"])
    size, bound = costs["size_bytes"], storage["bound_bytes"]
    busy = "" if row["bench"]["valid"] else " (busy)"
    cells = [
        f"{size:,}",
        f"{before / size:.1f}x",
        f"{costs['deflated_bytes']:,}",
        f"{size / bound:.2f} ({storage['weight_bytes'] / bound:.2f})" if bound else "",
        f"{parity['max_difference']:.1e}, {parity['top1_agreement']:.1%}",
        f"{row['test_accuracy']:.1%}",
        f"{costs['load_ms']:.1f} ms",
        f"{(costs['added_memory_bytes'] or 0) / 2**20:.1f} MiB",
        f"{ratio['value']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]{busy}",
    ]
    return f"| {name} | {key} | {' | '.join(cells)} |"


HEADINGS = "bytes", "smaller", "deflated", "/ bound", "parity", "accuracy", "load", "memory", "speed"
INTRODUCTION = """# Forms, precisions and targets

One network pruned to 90 % (and one with half of its channels), written in every way there is. *Smaller*: than the dense
float32 ONNX file. *Bound*: file (and its weights alone) against the entropy of mask and values. *Parity*: largest
difference from the PyTorch model, and how often both choose the same class. *Memory*: added by loading and a first run.
*Speed*: against the dense float32 ONNX file of the same network, one image, one thread; *busy*: other processes ran.
"""


def page(value: dict[str, Any]) -> str:
    heads = ("network", "target, precision, form", *HEADINGS)
    lines = [INTRODUCTION, f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, found in value["networks"].items():
        before = found["rows"]["onnx fp32 dense"]["bench"]["artifact"]["size_bytes"]
        lines += [line(f"{name} {found['side']}", key, row, before) for key, row in found["rows"].items()]
    machine = ", ".join(f"{key} {text}" for key, text in value["machine"].items())
    return "\n".join([*lines, "", f"{value['date']}; {machine}"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--runs", type=Path, help="run store")
    args = parser.parse_args()
    ctx, found = context(args.runs), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks.split(","):
            side, options = NETWORKS[name]
            found[name] = network(name, side, options, args.targets.split(","), Path(folder), ctx)
            path = record("forms", {"networks": found})  # after each: the next takes long
            (RESULTS / "forms.md").write_text(page(json.loads(path.read_text())))
    print(path)


if __name__ == "__main__":
    main()
