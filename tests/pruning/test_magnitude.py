"""Magnitude at once and along the cubic schedule: what is cut when, and that it stays cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.pruning import PATTERNS, network, space, task, violations
from support.states import same
from torch import nn

from mobileprune.pruning import METHODS, PruneTask, prune
from mobileprune.pruning.magnitude import CubicSchedule
from mobileprune.pruning.masks import Masks, prunable
from mobileprune.training import Hook, Recipe

ALL = [*PATTERNS, "channel"]


def options(pattern: str) -> dict[str, Any]:
    """A sparsity that the pattern can have on the tiny network."""
    return {"pattern": pattern, "sparsity": 0.3 if pattern in ("filter", "channel") else 0.8}


@pytest.mark.parametrize("budget", ["uniform", "global", "erk"])
@pytest.mark.parametrize("pattern", ALL)
def test_magnitude_keeps_the_largest_of_the_model_it_is_given(pattern: str, budget: str) -> None:
    model = network()
    expected = space(model, budget=budget, **options(pattern)).project(dict(model.named_parameters()))
    assert same(prune(task(model, budget=budget, **options(pattern)), METHODS["magnitude"]), expected)


class Watch(Hook):
    """The masks at every step of a schedule, and whether the weights keep to them."""

    def __init__(self, schedule: CubicSchedule) -> None:
        self.schedule, self.seen = schedule, list[Masks]()

    def after_step(self, model: nn.Module) -> None:
        masks = self.schedule.masks
        assert all(not model.get_parameter(name)[~mask].any() for name, mask in masks.items())
        if not self.seen or not same(self.seen[-1], masks):
            self.seen.append({name: mask.clone() for name, mask in masks.items()})


def watched(one: PruneTask) -> list[Masks]:
    schedule = CubicSchedule(one)
    watch = Watch(schedule)
    one.fit("gradual pruning", one.recipe.search, [schedule, watch])
    return watch.seen


def dropped(masks: Masks) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())


@pytest.mark.parametrize("pattern", ALL)
@pytest.mark.parametrize("budget", ["uniform", "global", "erk"])
def test_what_was_cut_stays_cut_and_more_follows(pattern: str, budget: str) -> None:
    """Of the tiny network; test_a_cut_weight_never_comes_back has one where a budget of largest remainders fails."""
    one = task(network(), budget=budget, search=Recipe(6, 0.01, 20, decay=False), **options(pattern))
    seen = watched(one)
    assert len(seen) > 1
    assert all(violations(pattern, masks) == [] for masks in seen)
    for before, after in pairwise(seen):
        assert dropped(before) < dropped(after)
        assert all(not (after[name] & ~before[name]).any() for name in after)


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_the_ratio_follows_the_cubic_schedule(epochs: int) -> None:
    one = task(network(), sparsity=0.9, search=Recipe(epochs, 0.01, 40, decay=False))
    expected = [round(0.9 * (1 - (1 - t / epochs) ** 3) * 540) for t in range(1, epochs + 1)]
    assert [dropped(masks) for masks in watched(one)] == expected
    assert expected[-1] == round(0.9 * 540)


def test_the_first_cut_is_made_before_the_first_step_of_the_weights_as_they_are() -> None:
    model = network()
    one = task(model, sparsity=0.9, search=Recipe(4, decay=False))
    expected = space(model, sparsity=0.9).project(prunable(model), 1 - 0.75**3)
    assert same(CubicSchedule(one).masks, expected)
