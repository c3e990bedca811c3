"""Random pruning: by the seed alone, and every unit with the same chance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.pruning import PATTERNS, network, space, task, violations
from support.states import same
from torch import nn

from mobileprune.pruning import METHODS

random = METHODS["random"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_seed_decides_and_the_weights_do_not(pattern: str) -> None:
    options = {"pattern": pattern, "sparsity": 0.3 if pattern == "filter" else 0.8}
    first, other = task(network(), **options), network()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(-3).add_(1)
    masks = random(first)
    assert violations(pattern, masks) == []
    assert same(masks, random(task(other, **options)))
    assert not same(masks, random(replace(first, seed=1)))


def shares(model: nn.Module, runs: int, **options: object) -> dict[str, torch.Tensor]:
    """How often each weight is kept."""
    one = task(network())
    one = replace(one, model=model, space=space(model, **options))
    found = [random(replace(one, seed=seed)) for seed in range(runs)]
    return {name: torch.stack([masks[name].float() for masks in found]).mean(0) for name in found[0]}


def test_every_weight_has_the_same_chance() -> None:
    runs = 300
    kept = shares(nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 3)), runs, sparsity=0.7, budget="global")
    deviation = (0.3 * 0.7 / runs) ** 0.5
    assert all(((share - 0.3).abs() < 5 * deviation).all() for share in kept.values())


@pytest.mark.parametrize(("pattern", "budget"), [("block:4x1", "uniform"), ("filter", "global")])
def test_every_unit_has_the_same_chance(pattern: str, budget: str) -> None:
    """Filters of 9 and of 450 weights; blocks of 4 rows, and a last one of 1."""
    if pattern == "filter":
        model: nn.Module = nn.Sequential(nn.Conv2d(1, 50, 3, padding=1), nn.Conv2d(50, 50, 3), nn.Flatten())
        model.append(nn.Linear(200, 3))
        kept = shares(model, 30, pattern=pattern, channel_ratio=0.8, budget=budget)
        found = {name: float(share.mean()) for name, share in kept.items() if share.dim() > 1}
    else:
        kept = shares(nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), 100, pattern=pattern, sparsity=0.8, budget=budget)
        found = {"whole": float(kept["1.weight"][:4].mean()), "ragged": float(kept["1.weight"][4].mean())}
    assert all(abs(share - 0.2) < 0.05 for share in found.values()), found
