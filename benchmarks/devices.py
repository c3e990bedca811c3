"""What does each form of a pruned network cost and give away, on this machine and on emulated phone processors?

    python benchmarks/devices.py [--networks lenet5,...] [--runs DIR] [--work DIR]

Every network is trained on scikit-learn's digits with canaries, pruned to 90 % by magnitude and retrained. Of each
form: bytes; time here and instructions on a Cortex-A53 and a Cortex-A76 beside the dense file's; accuracy and the AUC
of the loss attack on canaries, both of the answers that the file gave on the emulated Cortex-A76, and how far this
machine's differ. Needs what `mobileprune devices setup qemu` prepares. Writes results/devices.md beside the JSON. With
--work DIR a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, kept, record

from mobileprune import api
from mobileprune.errors import MobilepruneError
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train

Options = dict[str, Any]
NETWORKS: dict[str, tuple[int, Options]] = {
    "lenet5": (28, {"epochs": 60, "retrain_epochs": 30}),
    "resnet18": (8, {"epochs": 20, "retrain_epochs": 10}),
    "mobilenetv2": (28, {"epochs": 40, "retrain_epochs": 20, "lr": 3e-3}),
}
"""Name -> side of the images (8 is that of the original digits: at 28 emulation would take hours), and options."""
COMMON: Options = {"members": 500, "canaries": 0.2, "method": "magnitude", "keep_dense": "first-last"}
FORMS: dict[str, tuple[Options | None, Options]] = {
    "dense": (None, {}),
    "90 % single zeros, native": ({"sparsity": 0.9}, {"kernels": "native"}),
    "90 % single zeros, packed": ({"sparsity": 0.9}, {"sparse_format": "packed"}),
    "70 % of channels removed": ({"pattern": "channel", "channel_ratio": 0.7}, {}),
    "dense, int8": (None, {"precision": "int8", "min_agreement": 0.5}),
}
"""Name -> options of pruning (None: the dense network) and of export."""
EMULATED = ("qemu:cortex-a53", "qemu:cortex-a76")
ATTACKED = EMULATED[1]
ATOL = 1e-3
COLUMNS = (
    *("network", "form", "bytes", "speed x86", "A53", "A76", "A53 fewer", "A76 fewer", "accuracy", "canary AUC"),
    *("logits, classes", "AUC moved"),
)


def digits(side: int, folder: Path) -> str:
    """The embedded data set, or the 8 x 8 originals of it."""
    from sklearn.datasets import load_digits

    if side != 8:
        return "digits"
    found, path = load_digits(), folder / "digits-8.npz"
    np.savez(path, images=np.round(found.images[..., None] * (255 / 16)).astype(np.uint8), labels=found.target)
    return f"npz:{path}"


def exported(name: str, options: Options, ctx: Context) -> dict[str, Path]:
    """Artifact of every form."""
    found = {}
    for form, (pruning, exporting) in FORMS.items():
        config = api.configure(model=name, **COMMON, **options, **(pruning or {}), **exporting, atol=ATOL)
        made = train(config, ctx)
        if pruning is not None:
            made = prune(made, config, ctx)
        found[form] = export(made, config, ctx).path
    return found


def costs(artifact: Path, dense: Path, ctx: Context) -> dict[str, Any]:
    here = api.bench(artifact, baseline=dense, ctx=ctx).to_dict()
    found: dict[str, Any] = {
        "bytes": here["artifact"]["size_bytes"],
        "speedup": here["speedup"],
        "valid": here["valid"],
        "other_load_cores": here["other_load_cores"],
    }
    for device in EMULATED:
        there = api.bench(artifact, baseline=dense, ctx=ctx, device=device).to_dict()
        found[device] = {
            "instructions": there["artifact"]["instructions"],
            "fewer": there["fewer_instructions"],
            "kernels": there["kernels"],
        }
    return found


def leaks(artifact: Path, data: Options, ctx: Context) -> dict[str, Any]:
    value = api.attack(artifact, ctx=ctx, data=data, device=ATTACKED).to_dict()
    there, subject = value["on_device"], value["subjects"]["artifact"]
    return {
        "accuracy": subject["accuracy"],
        "counts": value["data"]["counts"],
        "auc": {group: {n: m["auc"] for n, m in by.items()} for group, by in subject["measurements"].items()},
        "strongest": {group: found["auc"] for group, found in subject["strongest"].items()},
        "auc_difference": there["auc_difference"],
        "largest_difference": there["largest_difference"],
        "top1_differ": there["top1_differ"],
        "examples": there["examples"],
    }


def examined(name: str, ctx: Context, kept_in: Path | None) -> dict[str, Any]:
    side, options = NETWORKS[name]
    with tempfile.TemporaryDirectory() as work:
        data = {"dataset": digits(side, Path(work))}
        paths = exported(name, {**options, **data}, ctx)
        found = {}
        for form, path in paths.items():
            found[form] = kept(
                kept_in,
                f"devices {name} {form}",
                lambda path=path: costs(path, paths["dense"], ctx) | leaks(path, data, ctx),
            )
            print(row(name, form, found[form]), flush=True)
    return found


def row(name: str, form: str, found: dict[str, Any]) -> str:
    a53, a76 = (f"{found[device]['fewer']:.2f}x" for device in EMULATED)
    speed, canaries = found["speedup"], found["auc"]["canaries"]["loss"]
    moved = max(abs(e["value"]) for by in found["auc_difference"].values() for e in by.values())
    cells = [
        *(name, form, f"{found['bytes']:,}"),
        f"{speed['value']:.2f} [{speed['low']:.2f}, {speed['high']:.2f}]" + ("" if found["valid"] else " busy"),
        *(f"{found[device]['instructions'] / 1e6:.2f}" for device in EMULATED),
        *(a53, a76, f"{found['accuracy']['test']:.3f}"),
        f"{canaries['value']:.3f} [{canaries['low']:.3f}, {canaries['high']:.3f}]",
        f"{found['largest_difference']:.0e}, {found['top1_differ']} of {found['examples']:,}",
        f"{moved:.4f}",
    ]
    return "| " + " | ".join(cells) + " |"


def page(value: dict[str, Any]) -> str:
    common = value["options"]
    sides = ", ".join(f"{name} {side} x {side}" for name, side in value["sides"].items())
    head = [
        "# Forms of a network on this machine and on emulated phone processors\n",
        f"scikit-learn's digits ({sides}), {common['members']} members of which {common['canaries']:.0%} are",
        "canaries, pruned by magnitude. One image, one thread. Speed: the dense file's time over this one's on x86,",
        "with its interval; *busy*: other processes had the machine: read with care. Instructions of aarch64 binaries",
        "under emulation: millions, and how many times fewer than the dense file's; they are no time. Accuracy on test",
        "images and AUC of the loss attack on canaries: of the answers that the file gave on the emulated Cortex-A76.",
        "Then how far they are from this machine's: the largest difference of a logit, of how many images the class",
        "differs, and the largest change of an AUC of any attack.\n",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    rows = [row(name, form, found) for name, forms in value["networks"].items() for form, found in forms.items()]
    return "\n".join([*head, *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--runs", type=Path, help="run store")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured")
    args = parser.parse_args()
    ctx = api.context(args.runs)
    networks = {name: examined(name, ctx, args.work) for name in args.networks.split(",")}
    sides = {name: NETWORKS[name][0] for name in networks}
    written = record("devices", {"sides": sides, "options": COMMON, "networks": networks})
    (RESULTS / "devices.md").write_text(page(json.loads(written.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except MobilepruneError as problem:
        print(f"benchmarks/devices.py: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
