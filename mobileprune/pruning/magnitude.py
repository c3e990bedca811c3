"""One-shot magnitude pruning (Han et al., arXiv 1506.02626): keep the largest |w|."""

from __future__ import annotations

from mobileprune.pruning.base import PruneTask
from mobileprune.pruning.masks import Masks, project, prunable


def magnitude(task: PruneTask) -> Masks:
    weights = {name: weight.detach() for name, weight in prunable(task.model, task.recipe.keep_dense).items()}
    return project(weights, task.recipe.sparsity, task.recipe.scope)
