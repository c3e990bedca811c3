"""What all methods share: the task, hard pruning and masked retraining (steps 3 and 4 of MIA-Pruning)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from mobileprune.defenses import Situation, defend
from mobileprune.pruning.masks import FrozenMask, Masks, apply_masks
from mobileprune.pruning.space import Space
from mobileprune.resume import Checkpoint
from mobileprune.tensors import Tensors
from mobileprune.training import Examples, Hook, Progress, Recipe, fit


@dataclass(frozen=True)
class PruneRecipe:
    """``search``: the pruning stage of methods that have one. ``defense``: as in :mod:`mobileprune.defenses`."""

    search: Recipe = field(default_factory=lambda: Recipe(epochs=30, decay=False))
    retrain: Recipe = field(default_factory=lambda: Recipe(epochs=30))
    defense: str = "none"


@dataclass(frozen=True)
class PruneTask:
    """Everything a method may use; ``checkpoint`` gives the resumable place of a stage by its name.

    ``dense``: a copy of the model before pruning, ``crossfitted``: as in Situation; both for defences.
    """

    model: nn.Module
    members: Examples
    reference: Examples
    num_classes: int
    space: Space
    recipe: PruneRecipe
    seed: int
    progress: Progress | None = None
    checkpoint: Callable[[str], Checkpoint | None] = lambda stage: None
    dense: nn.Module | None = None
    crossfitted: Callable[[int], Examples] | None = None

    def weights(self) -> Tensors:
        """A copy of the values that the projection looks at."""
        return {name: self.model.get_parameter(name).detach().clone() for name in self.space.parameters}

    def fit(self, what: str, recipe: Recipe, hooks: Sequence[Hook]) -> None:
        """Train ``model`` with the defences that suit "retraining", or else a method's own stage called ``what``."""
        situation = Situation(self.members, self.reference, self.num_classes, self.seed, self.dense, self.crossfitted)
        plan = defend(self.recipe.defense, "retraining" if what == "retraining" else "pruning", situation)
        fit(
            self.model,
            plan.examples,
            recipe,
            seed=self.seed,
            what=what,
            hooks=[*plan.hooks, *hooks],
            checkpoint=self.checkpoint(what),
            progress=self.progress,
        )


Method = Callable[[PruneTask], Masks]


def prune(task: PruneTask, method: Method) -> Masks:
    """Find masks with ``method``, prune ``task.model`` in place and retrain it with the masks frozen."""
    task = replace(task, dense=copy.deepcopy(task.model))
    masks = method(task)
    apply_masks(task.model, masks)
    if task.recipe.retrain.epochs:
        task.fit("retraining", task.recipe.retrain, [FrozenMask(masks)])
    return masks
