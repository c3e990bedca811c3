"""Which classifiers of torchvision can be pruned in which pattern? Found out by doing it, each in its own process.

    python benchmarks/support.py [--models resnet18,swin_t]

Unstructured: 90 % of the weights masked by magnitude and counted. ``block:8x1`` and ``2:4``: share of the weights in
layers that the pattern covers. Channel: half of the channels of every group masked; the space offers only groups
whose physical removal by torch-pruning gives the same outputs (checked there), and says why others stay. A model
that crashes or takes too long is reported as that. Writes results/support.md beside the JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from record import RESULTS, record

MODELS = {
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64,
    "vgg11_bn": 64,
    "vgg16": 64,
    "alexnet": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "squeezenet1_1": 64,
    "shufflenet_v2_x1_0": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "mnasnet0_5": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "vit_b_16": 64,
    "swin_t": 64,
}
"""Name -> side of the images: small ones give the same answer faster."""
MEMORY, SECS = 14 * 2**30, 240


def examine(name: str, size: int) -> dict[str, Any]:
    import torch

    from mobileprune import models
    from mobileprune.errors import MobilepruneError
    from mobileprune.pruning import Space, SpaceOptions
    from mobileprune.pruning.masks import apply_masks, count_zeros

    torch.set_num_threads(1)
    shape, x = (3, size, size), torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = models.build(f"torchvision:{name}", num_classes=10, input_shape=shape, seed=0)
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    for pattern in ("unstructured", "block:8x1", "2:4", "channel"):
        started = time.perf_counter()
        ratio = 0.5 if pattern == "channel" else None
        try:
            space = Space.of(model, SpaceOptions(0.9, pattern, ratio), x)
        except MobilepruneError as error:
            found[pattern] = {"refused": str(error)}
            continue
        weights = {n: model.get_parameter(n).detach() for n in space.parameters}
        pruned = models.build(f"torchvision:{name}", num_classes=10, input_shape=shape, seed=0)
        apply_masks(pruned, space.project(weights))
        zeros = count_zeros(pruned, list(space.layers))
        with torch.no_grad():
            assert torch.isfinite(pruned.eval()(x)).all()
        found[pattern] = {
            "sparsity": zeros["prunable_zeros"] / zeros["prunable_total"],
            "covered": sum(model.get_parameter(n).numel() for n in space.layers) / found["parameters"],
            "sites": len(space.sites),
            "left_dense": dict(Counter(space.left_dense.values()).most_common()),
            "secs": round(time.perf_counter() - started, 1),
        }
    return found


def in_process(name: str, size: int) -> dict[str, Any]:
    """``examine`` in a process that cannot take the machine's memory or time."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, str(size)],
            capture_output=True,
            text=True,
            timeout=SECS,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {SECS} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(name: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {name} | {found['failed']} | | | | |"
    cells = []
    for pattern in ("unstructured", "block:8x1", "2:4", "channel"):
        one = found[pattern]
        if "refused" in one:
            cells.append("refused")
        elif pattern in ("block:8x1", "2:4"):
            cells.append(f"{one['covered']:.0%} of the weights")
        elif pattern == "channel":
            cells.append(f"{one['sparsity']:.0%} zeros in {one['sites']} groups")
        else:
            cells.append(f"{one['sparsity']:.2%}")
    reasons = found["channel"].get("left_dense", {})
    note = found["channel"].get("refused") or "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return f"| {name} | {' | '.join(cells)} | {note.replace('|', '/')} |"


def page(value: dict[str, Any]) -> str:
    lines = [
        "# What can be pruned: torchvision's classifiers",
        "",
        "Unstructured at 90 %; which share of all weights the block and N:M patterns cover; half of all channels "
        "masked, in groups whose physical removal was found to give the same outputs, and why other layers keep theirs "
        "(number of layers).",
        "",
        "| torchvision: | unstructured | block:8x1 | 2:4 | channel | channels that stay |",
        "|---|---|---|---|---|---|",
        *(line(name, found) for name, found in value["models"].items()),
        "",
        f"{value['date']}; " + ", ".join(f"{key} {text}" for key, text in value["machine"].items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help="examine one model in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(examine(args.one[0], int(args.one[1]))))
        return
    found = {}
    for name in args.models.split(","):
        found[name] = in_process(name, MODELS[name])
        print(line(name, found[name]), flush=True)
    path = record("support", {"models": found})
    (RESULTS / "support.md").write_text(page(json.loads(path.read_text())))
    print(path)


if __name__ == "__main__":
    main()
