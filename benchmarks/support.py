"""Which classifiers of torchvision can be pruned in which pattern? Found out by doing it, each in its own process.

    python benchmarks/support.py [--models resnet18,swin_t]

Unstructured: 90 % of the weights masked by magnitude and counted. ``block:8x1`` and ``2:4``: share of the weights in
layers that the pattern covers. Channel: half of the channels of every group masked; then torch-pruning takes the same
channels out of a copy, and the outputs are compared. Parameters that start at one value (the head of a ViT, layer
scales) and batch statistics are drawn at random first: zeros would agree with anything. A model that is refused,
crashes or takes too long is reported as that. Writes results/support.md beside the JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import signal
import subprocess
import sys
import time
import warnings
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
    "maxvit_t": 224,
}
"""Name -> side of the images: small ones give the same answer faster, but MaxViT takes no others."""
MEMORY, SECS = 14 * 2**30, 300
TOLERANCE = 1e-5


def lively(model: Any, size: int) -> Any:
    """``model``, in place, with no parameter or running statistic at its default."""
    import torch

    rng = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if float(parameter.detach().std(unbiased=False)) < 1e-3:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=rng) + parameter.detach().mean()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the average over what it sees
        norm.train()
    with torch.no_grad():
        model(torch.randn(4, 3, size, size, generator=rng))
    return model.eval()


def difference(pruned: Any, model: Any, space: Any, masks: dict[str, Any], x: Any) -> float:
    """Largest |masked - removed| / largest |masked|; torch-pruning removes, on its own, what ``masks`` drop."""
    import torch
    import torch_pruning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(model, (x,), verbose=False)
        for site in space.sites:
            gone = (~masks[site.name].flatten(1).any(1)).nonzero().flatten().tolist()
            layer = model.get_submodule(site.name.rpartition(".")[0])
            if gone:
                graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, gone).prune()
    with torch.no_grad():
        masked, removed = pruned(x), model(x)
    return float((masked - removed).abs().max() / masked.abs().max())


def examine(name: str, size: int) -> dict[str, Any]:
    import torch

    from mobileprune import models
    from mobileprune.errors import MobilepruneError
    from mobileprune.pruning import Space, SpaceOptions
    from mobileprune.pruning.masks import apply_masks, count_zeros

    torch.set_num_threads(1)
    shape, x = (3, size, size), torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = lively(models.build(f"torchvision:{name}", num_classes=10, input_shape=shape, seed=0), size)
    found: dict[str, Any] = {"side": size, "parameters": sum(p.numel() for p in model.parameters())}
    for pattern in ("unstructured", "block:8x1", "2:4", "channel"):
        started = time.process_time()
        ratio = 0.5 if pattern == "channel" else None
        try:
            space = Space.of(model, SpaceOptions(0.9, pattern, ratio), x)
        except MobilepruneError as error:
            found[pattern] = {"refused": str(error)}
            continue
        masks = space.project({n: model.get_parameter(n).detach() for n in space.parameters})
        pruned = copy.deepcopy(model)
        apply_masks(pruned, masks)
        zeros = count_zeros(pruned, list(space.layers))
        found[pattern] = {
            "zeros": zeros["prunable_zeros"],
            "total": zeros["prunable_total"],
            "sparsity": zeros["prunable_zeros"] / zeros["prunable_total"],
            "covered": sum(model.get_parameter(n).numel() for n in space.layers) / found["parameters"],
            "sites": len(space.sites),
            "left_dense": dict(Counter(space.left_dense.values()).most_common()),
        }
        if pattern == "unstructured":
            found[pattern]["exact"] = zeros["prunable_zeros"] == round(0.9 * zeros["prunable_total"])
        if pattern == "channel":
            found[pattern]["difference"] = difference(pruned, model, space, masks, x)  # the last: it uses the model up
        found[pattern]["processor_secs"] = round(time.process_time() - started, 1)
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECS, SECS + 5))


def in_process(name: str, size: int) -> dict[str, Any]:
    """``examine`` in a process that cannot take the machine's memory or time."""
    command = [sys.executable, __file__, "--one", name, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    if done.returncode == -signal.SIGXCPU:
        return {"failed": f"took more than {SECS} s of processor time"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1][:200]
        return {"failed": f"exit {done.returncode}: {last}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(name: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {name} | {found['failed'].replace('|', '/')} | | | | | |"
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
            cells.append(f"{one['sparsity']:.2%}{'' if one['exact'] else ', not exact'}")
    channel = found["channel"]
    gap = channel.get("difference")
    cells.append("" if gap is None else f"{'same' if gap <= TOLERANCE else '**differs**'} ({gap:.0e})")
    note = "; ".join(f"{reason} ({count})" for reason, count in channel.get("left_dense", {}).items())
    return f"| {name} | {' | '.join(cells)} | {(channel.get('refused') or note).replace('|', '/')} |"


def page(value: dict[str, Any]) -> str:
    lines = [
        "# What can be pruned: torchvision's classifiers",
        "",
        "Unstructured at 90 %, counted; which share of all weights the block and N:M patterns cover; half of all "
        "channels masked; whether torch-pruning's removal of the same channels gives the same outputs (largest "
        "difference, as a share of the largest output); and why other layers keep their channels (number of layers). "
        "Kept channels come in multiples of 8, which may keep most of a layer with many groups (RegNet).",
        "",
        "| torchvision: | unstructured | block:8x1 | 2:4 | channel | removed | channels that stay |",
        "|---|---|---|---|---|---|---|",
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
