"""What the pipeline costs on top of training: the whole demo command against the bare training loops inside it.

    python benchmarks/overhead.py [--repeats 5]

A is `mobileprune export --sparsity 0.9 --target onnx` in a new process and an empty run store, imports and report
included; B is the three training loops that it contains (dense, ADMM, retraining) on tensors in memory, without
checkpoints or progress. They take turns, A B A B.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from record import record

from mobileprune import models
from mobileprune.api import configure
from mobileprune.bench.load import LoadWatch
from mobileprune.bench.timing import paired_ratio
from mobileprune.pipeline.inputs import channel_statistics, examples, splits_of
from mobileprune.pruning import PruneRecipe, PruneTask, Space, SpaceOptions, method, prune
from mobileprune.training import Recipe, fit


def command(folder: Path) -> dict[str, Any]:
    """Seconds of the whole command, and of its steps."""
    arguments = ["export", "--sparsity", "0.9", "--target", "onnx", "-q", "-o", str(folder / "out"), "--json", "-"]
    start = time.perf_counter()
    module = [sys.executable, "-m", "mobileprune.cli.main", *arguments, "--runs", str(folder / "runs")]
    done = subprocess.run(module, capture_output=True, text=True, check=True)
    secs = time.perf_counter() - start
    steps: dict[str, float] = {}
    for step in json.loads(done.stdout)["steps"]:
        steps[step["step"]] = steps.get(step["step"], 0.0) + step["seconds"]
    return {"secs": secs, "steps": steps}


def bare_loops() -> float:
    config = configure(sparsity=0.9)
    splits = splits_of(config)
    shape, classes = splits.images.shape, len(splits.images.classes)
    members = examples(splits, splits.members, *channel_statistics(splits))
    reference = examples(splits, splits.reference, *channel_statistics(splits))
    p, t = config.prune, config.train
    recipe = PruneRecipe(
        search=Recipe(p.prune_epochs, t.lr, t.batch_size, decay=False),
        retrain=Recipe(p.retrain_epochs, t.lr, t.batch_size),
    )
    start = time.perf_counter()
    model = models.build(t.model, num_classes=classes, input_shape=shape, seed=config.seed)
    fit(model, members, Recipe(t.epochs, t.lr, t.batch_size), seed=config.seed)
    space = Space.of(model, SpaceOptions(p.sparsity), members.inputs(torch.arange(2)))
    prune(PruneTask(model, members, reference, classes, space, recipe, config.seed), method(p.method))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    import torch

    torch.set_num_threads(1)
    bare_loops()  # warm up
    commands, loops, watch = [], [], LoadWatch()
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            commands.append(command(Path(folder)))
        loops.append(bare_loops())
        print(f"command {commands[-1]['secs']:.1f} s, loops {loops[-1]:.1f} s", flush=True)
    load, valid, note = watch.finish()
    ratio = paired_ratio([[c["secs"]] for c in commands], [[secs] for secs in loops])
    value = {"command": commands, "loops_secs": loops, "ratio": vars(ratio)}
    path = record("overhead", {**value, "other_load_cores": load, "valid": valid, "note": note})
    print(f"command / loops: {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]; {note}\n{path}")


if __name__ == "__main__":
    main()
