"""What all methods share: the task, hard pruning and masked retraining (steps 3 and 4 of MIA-Pruning)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from mobileprune.defenses.minmax import MinMax
from mobileprune.pruning.masks import FrozenMask, Masks, apply_masks
from mobileprune.resume import Checkpoint
from mobileprune.training import Examples, Hook, Progress, Recipe, fit


@dataclass(frozen=True)
class PruneRecipe:
    """``sparsity``: share of zeros among prunable weights, in [0, 1). ``lam``: weight of the min-max gain."""

    sparsity: float
    scope: str = "layer"
    keep_dense: str = "none"
    lam: float = 0.0
    admm: Recipe = field(default_factory=lambda: Recipe(epochs=30, decay=False))
    retrain: Recipe = field(default_factory=lambda: Recipe(epochs=30))


@dataclass(frozen=True)
class PruneTask:
    """Everything a method may use; ``checkpoint`` gives the resumable place of a stage by its name."""

    model: nn.Module
    members: Examples
    reference: Examples
    num_classes: int
    recipe: PruneRecipe
    seed: int
    progress: Progress | None = None
    checkpoint: Callable[[str], Checkpoint | None] = lambda stage: None

    def fit(self, stage: str, recipe: Recipe, hooks: Sequence[Hook]) -> None:
        """Train ``model`` on the members, with the min-max game on top when lambda > 0."""
        lam = self.recipe.lam
        game = [MinMax(self.members, self.reference, self.num_classes, lam=lam, seed=self.seed)] if lam else []
        fit(
            self.model,
            self.members,
            recipe,
            seed=self.seed,
            what=stage,
            hooks=[*game, *hooks],
            checkpoint=self.checkpoint(stage),
            progress=self.progress,
        )


Method = Callable[[PruneTask], Masks]


def prune(task: PruneTask, method: Method) -> Masks:
    """Find masks with ``method``, prune ``task.model`` in place and retrain it with the masks frozen."""
    masks = method(task)
    apply_masks(task.model, masks)
    task.fit("retraining", task.recipe.retrain, [FrozenMask(masks)])
    return masks
