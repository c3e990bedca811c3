"""Random pruning: the control. A method that does no better than this has found nothing."""

from __future__ import annotations

import torch

from mobileprune.pruning.base import PruneTask
from mobileprune.pruning.masks import Masks
from mobileprune.seeding import torch_rng


def random(task: PruneTask) -> Masks:
    rng = torch_rng(task.seed, "random pruning")
    values = {name: torch.rand(w.shape, generator=rng) for name, w in task.weights().items()}
    allowed = {site.name: site.scores(values) >= 0 for site in task.space.sites}
    # A draw for each unit, not the mean of its weights' draws: large units would all be near the middle.
    scores = {name: torch.where(ok, torch.rand(len(ok), generator=rng), -1.0) for name, ok in allowed.items()}
    return task.space.choose(scores)
