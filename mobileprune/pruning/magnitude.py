"""Magnitude pruning: keep what is largest, at once or along a schedule."""

from __future__ import annotations

import torch
from torch import nn

from mobileprune.pruning.base import PruneTask
from mobileprune.pruning.masks import FrozenMask, Masks, apply_masks
from mobileprune.tensors import Tensors


def magnitude(task: PruneTask) -> Masks:
    """One-shot (Han et al., arXiv 1506.02626): the largest |w|, or blocks, filters or channels of largest norm."""
    return task.space.project(task.weights())


class CubicSchedule(FrozenMask):
    r"""ratio_t = ratio * (1 - (1 - t/T)^3), a cut at the start of every epoch t (Zhu & Gupta, arXiv 1710.01878).

    What was cut stays cut: the weights are zero, so they are the smallest at the next cut. (Sharing out a budget to
    whole units can give a layer one more than before, and one of its zeros is then free again.)
    """

    def __init__(self, task: PruneTask) -> None:
        super().__init__({})
        self.space, self.epochs = task.space, task.recipe.search.epochs
        self._cut(task.model, 0)

    def _cut(self, model: nn.Module, epoch: int) -> None:
        left = 1 - (epoch + 1) / self.epochs
        weights = {name: model.get_parameter(name).detach() for name in self.space.parameters}
        self.masks = self.space.project(weights, 1 - left**3)
        apply_masks(model, self.masks)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if epoch + 1 < self.epochs:
            self._cut(model, epoch + 1)

    def state(self) -> Tensors:
        return dict(self.masks)

    def restore(self, state: Tensors) -> None:
        self.masks = {name: mask.to(torch.bool) for name, mask in state.items()}


def gradual(task: PruneTask) -> Masks:
    """Trained while it is cut: the last epoch of the pruning stage runs at the full ratio."""
    schedule = CubicSchedule(task)
    task.fit("gradual pruning", task.recipe.search, [schedule])
    return schedule.masks
