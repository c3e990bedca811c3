"""How much slower is `training.fit` than a bare PyTorch loop over the same model, data and optimiser?

    python benchmarks/training_speed.py [--pairs 7]

Both do the same arithmetic (uint8 pixels normalised per batch, Adam, cosine learning rate); an epoch of one is
followed by an epoch of the other, in one process. The ratio's interval is the sign test's on the median of pairs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import record
from scipy.stats import binom
from torch import nn
from torch.nn import functional

from mobileprune import models
from mobileprune.training import Examples, Recipe, fit

CASES: dict[str, dict[str, Any]] = {
    "lenet5": {"name": "lenet5"},
    "resnet8": {"name": "resnet8"},
    "mobilenetv2 x0.25": {"name": "mobilenetv2", "width_mult": 0.25},
}
SHAPE = (3, 32, 32)
COUNT = 1024


def bare(model: nn.Module, data: Examples, epochs: int) -> None:
    """What a careful user would write."""
    assert data.mean is not None
    assert data.std is not None
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for batch in torch.randperm(COUNT).split(64):
            x = (data.x[batch].float() / 255 - data.mean) / data.std
            loss = functional.cross_entropy(model(x), data.y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def median_interval(ratios: list[float]) -> dict[str, float]:
    """The median and the widest order statistics that the binomial gives at least 95 %."""
    ordered, n = sorted(ratios), len(ratios)
    depth = max((k for k in range(n // 2) if 1 - 2 * binom.cdf(k, n, 0.5) >= 0.95), default=0)
    return {"median": float(np.median(ordered)), "low": ordered[depth], "high": ordered[n - 1 - depth]}


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(case: dict[str, Any], pairs: int, epochs: int) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (COUNT, *SHAPE), dtype=torch.uint8, generator=rng)
    y = torch.randint(0, 10, (COUNT,), generator=rng)
    data = Examples(x, y, torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))
    model = models.build(num_classes=10, input_shape=SHAPE, seed=0, **case)
    ours, theirs = [], []
    for pair in range(pairs + 1):
        a = seconds(lambda: fit(model, data, Recipe(epochs), seed=0))
        b = seconds(lambda: bare(model, data, epochs))
        if pair:  # the first warms up
            ours.append(a / epochs)
            theirs.append(b / epochs)
    ratio = median_interval([a / b for a, b in zip(ours, theirs, strict=True)])
    return {"ratio": ratio, "fit_epoch_s": ours, "bare_epoch_s": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, case in CASES.items():
        found[name] = compare(case, args.pairs, args.epochs)
        r = found[name]["ratio"]
        print(f"{name:<20} {r['median']:.3f}x [{r['low']:.3f}, {r['high']:.3f}]", flush=True)
    print(record("training-speed", {"images": COUNT, "batch_size": 64, "cases": found}))


if __name__ == "__main__":
    main()
