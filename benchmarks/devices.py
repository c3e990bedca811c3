"""What does each form of a pruned network cost and give away, on this machine and on emulated phone processors?

    python benchmarks/devices.py [--networks lenet5 ...] [--runs DIR] [--work DIR]

Every network is trained on scikit-learn's digits with canaries, pruned to 90 % by magnitude and retrained. Of each
form: bytes; time here and instructions on a Cortex-A53 and a Cortex-A76 beside the dense file's; accuracy; the AUC of
the loss attack on canaries, of the answers that the file gave on the emulated Cortex-A76, and how far this machine's
differ. Needs what `mobileprune devices setup qemu` prepares. Writes results/devices.md beside the JSON. With
--work DIR a run that was stopped goes on; times are taken last, and anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import RESULTS, kept, record
from scipy.special import log_softmax

from mobileprune import api
from mobileprune.artifact import Artifact
from mobileprune.audit.auc import auc
from mobileprune.audit.intervals import Estimate
from mobileprune.data.splits import Splits
from mobileprune.devices.session import Device
from mobileprune.errors import MobilepruneError
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.inputs import pixels, splits_of
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train
from mobileprune.runtimes import open_runtime
from mobileprune.runtimes.device import DeviceRuntime

Options = dict[str, Any]
SMALL_MOBILENET: Options = {"model": "mobilenetv2", "width_mult": 0.5, "epochs": 30, "lr": 3e-3}
NETWORKS: dict[str, tuple[int, Options]] = {
    "lenet5": (28, {"epochs": 60, "retrain_epochs": 30}),
    "resnet18": (8, {"epochs": 20, "retrain_epochs": 10}),
    "mobilenetv2, first": (28, {**SMALL_MOBILENET, "retrain_epochs": 15}),
    "mobilenetv2, retrained longer": (28, {**SMALL_MOBILENET, "retrain_epochs": 80}),
}
"""Name -> side of the images (8 is that of the original digits: at 28 emulation would take hours), and options. The
first MobileNetV2 is what was planned; the second was added when that had lost most of its accuracy."""
COMMON: Options = {"members": 500, "canaries": 0.2, "method": "magnitude", "keep_dense": "first-last"}
FORMS: dict[str, tuple[Options | None, Options]] = {
    "dense": (None, {}),
    "90 % single zeros, native": ({"sparsity": 0.9}, {"kernels": "native"}),
    "90 % single zeros, packed": ({"sparsity": 0.9}, {"sparse_format": "packed"}),
    "70 % of channels removed": ({"pattern": "channel", "channel_ratio": 0.7}, {}),
    "dense, int8": (None, {"precision": "int8", "min_agreement": 0.5}),
}
"""Name -> options of pruning (None: the dense network) and of export."""
WHOLE = ("lenet5",)
"""Attacked in full on the device; of the others, which take it a second or so an image, only the canaries are asked."""
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
        config = api.configure(**{"model": name, **COMMON, **options, **(pruning or {}), **exporting, "atol": ATOL})
        made = train(config, ctx)
        if pruning is not None:
            made = prune(made, config, ctx)
        found[form] = export(made, config, ctx).path
    return found


def timed(artifact: Path, dense: Path, ctx: Context) -> dict[str, Any]:
    here = api.bench(artifact, baseline=dense, ctx=ctx).to_dict()
    return {name: here[name] for name in ("speedup", "valid", "other_load_cores")}


def counted(artifact: Path, dense: Path, ctx: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"bytes": Artifact.load(artifact).model_path.stat().st_size}
    for device in EMULATED:
        there = api.bench(artifact, baseline=dense, ctx=ctx, device=device).to_dict()
        found[device] = {
            "instructions": there["artifact"]["instructions"],
            "fewer": there["fewer_instructions"],
            "kernels": there["kernels"],
        }
    return found


def attacked(artifact: Path, data: Options, ctx: Context) -> dict[str, Any]:
    """Every attack, of the answers of the device to all members, held-out and test images."""
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


def asked(path: Path, splits: Splits) -> dict[str, Any]:
    """The loss attack on canaries, of the answers of the device; accuracy on test images, of those of this machine."""
    artifact = Artifact.load(path)
    runtime = open_runtime(artifact)
    canaries = [part[splits.canary[part]] for part in (splits.members, splits.held_out)]
    both = np.concatenate(canaries)
    here = runtime.predict(pixels(splits, both))
    with Device(ATTACKED).session() as session:
        there = DeviceRuntime(artifact, session).predict(pixels(splits, both))
    a, b = (loss_auc(logits, splits.labels[both], len(canaries[0])) for logits in (there, here))
    test = runtime.predict(pixels(splits, splits.test)).argmax(1)
    return {
        "accuracy": {"test": float((test == splits.labels[splits.test]).mean())},
        "counts": splits.counts(),
        "auc": {"canaries": {"loss": a.to_dict()}},
        "auc_difference": {"canaries": {"loss": {"value": a.value - b.value}}},
        "largest_difference": float(np.abs(there - here).max()),
        "top1_differ": int((there.argmax(1) != here.argmax(1)).sum()),
        "examples": len(both),
    }


def loss_auc(logits: NDArray[np.float32], labels: NDArray[np.int64], members: int) -> Estimate:
    """Of (N, K) logits, members first: low losses say member."""
    scores = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return auc(scores[:members], scores[members:])


def examined(name: str, ctx: Context, kept_in: Path | None) -> tuple[dict[str, Any], dict[str, Path]]:
    """All but times of every form, and their artifacts."""
    side, options = NETWORKS[name]
    with tempfile.TemporaryDirectory() as work:
        data = {"dataset": digits(side, Path(work))}
        splits = splits_of(api.configure(**{k: COMMON[k] for k in ("members", "canaries")}, **data))
        paths = exported(name, {**options, **data}, ctx)
        found = {}
        for form, path in paths.items():
            found[form] = kept(
                kept_in,
                f"devices {name} {form}",
                lambda path=path: (
                    counted(path, paths["dense"], ctx)
                    | (attacked(path, data, ctx) if name in WHOLE else asked(path, splits))
                ),
            )
            print(f"{name}, {form}: {found[form]['bytes']:,} bytes", flush=True)
    return found, paths


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
    whole = ", ".join(name for name in WHOLE if name in value["networks"])
    head = [
        "# Forms of a network on this machine and on emulated phone processors\n",
        f"scikit-learn's digits ({sides}), {common['members']} members of which {common['canaries']:.0%} are",
        "canaries, pruned by magnitude. One image, one thread. Speed: the dense file's time over this one's on x86,",
        "with its interval; *busy*: other processes had the machine: read with care. Instructions of aarch64 binaries",
        "under emulation: millions, and how many times fewer than the dense file's; they are no time. Accuracy on test",
        "images; AUC of the loss attack on canaries, of the answers that the file gave on the emulated Cortex-A76, and",
        "how far those are from this machine's: the largest difference of a logit, of how many images the class",
        f"differs, and the largest change of an AUC. Attacked in full there (all attacks on all images): {whole}; the",
        "others were asked about their canaries. The MobileNetV2 is of half the width. It was first retrained for 15",
        "epochs, as planned; pruned, it had lost so much accuracy that it was retrained for 80 too. Both are shown:",
        "with the accuracy the leak comes back. A dense file's speed beside itself is 1: how far it is from 1",
        "here, outside of its interval, is noise of this machine in all of this column.\n",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    rows = [row(name, form, found) for name, forms in value["networks"].items() for form, found in forms.items()]
    return "\n".join([*head, *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    parser.add_argument("--runs", type=Path, help="run store")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured")
    args = parser.parse_args()
    ctx = api.context(args.runs)
    networks, paths = {}, {}
    for name in args.networks:
        networks[name], paths[name] = examined(name, ctx, args.work)
    for name, forms in networks.items():  # after all else, which would disturb it, and anew each time
        for form, found in forms.items():
            found |= timed(paths[name][form], paths[name]["dense"], ctx)
            print(row(name, form, found), flush=True)
    sides = {name: NETWORKS[name][0] for name in networks}
    written = record("devices", {"sides": sides, "options": COMMON, "networks": networks})
    (RESULTS / "devices.md").write_text(page(json.loads(written.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except MobilepruneError as problem:
        print(f"benchmarks/devices.py: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
