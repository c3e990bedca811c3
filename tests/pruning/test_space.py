"""The projection, for every pattern and budget, against sorting all units and against all supports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pruning import PATTERNS, network, scores, site, space, units, violations
from torch import Tensor, nn

from mobileprune.errors import UsageError
from mobileprune.pruning.budgets import SHARED, Kept, by_score, erk, rounded, uniform
from mobileprune.pruning.masks import Masks, apply_masks, prunable
from mobileprune.pruning.patterns import Filters
from mobileprune.pruning.space import Space

quick = settings(max_examples=20)
ratios = st.sampled_from([0.0, 0.001, 1 / 3, 0.5, 0.9, 0.999]) | st.floats(0, 1, exclude_max=True)
blueprints = st.lists(
    st.tuples(st.integers(1, 17), st.integers(1, 2), st.lists(st.integers(1, 2), max_size=2)), min_size=1, max_size=3
)
both = pytest.mark.parametrize("budget", ["uniform", "global"])


def whole_numbers(shapes: dict[str, tuple[int, ...]], seed: int, high: int = 3) -> dict[str, Tensor]:
    """Small ones: many ties, and squares that add up exactly."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.tensor(rng.integers(-high, high + 1, shape), dtype=torch.float32) for name, shape in shapes.items()
    }


def shapes_for(pattern: str, blueprint: list[tuple[int, int, list[int]]]) -> dict[str, tuple[int, ...]]:
    kind, _, size = pattern.partition(":")
    step = int(size) if kind.isdecimal() else 1
    return {f"l{i}": (rows, step * columns, *kernel) for i, (rows, columns, kernel) in enumerate(blueprint)}


def space_of(pattern: str, shapes: dict[str, tuple[int, ...]], budget: str, ratio: float) -> Space:
    sites = tuple(site(pattern, name, shape) for name, shape in shapes.items())
    return Space(sites, tuple(shapes), {}, budget, ratio)


def kept_units(pattern: str, masks: Masks) -> dict[str, list[int]]:
    """Numbers of the units whose weights are all kept."""
    found = {}
    for name, mask in masks.items():
        flat = mask.flatten().tolist()
        found[name] = [u for u, unit in enumerate(units(pattern, tuple(mask.shape))) if all(flat[i] for i in unit)]
    return found


def by_sorting(pattern: str, weights: dict[str, Tensor], budget: str, ratio: float) -> dict[str, list[int]]:
    """Sort all units by (forced, score, position) and take the first ones; of filters at least one a layer."""
    rated = {name: scores(pattern, w.numpy()) for name, w in weights.items()}
    found = space_of(pattern, {name: tuple(w.shape) for name, w in weights.items()}, budget, ratio)
    if budget == "global":
        flat = [(name, u, score) for name, values in rated.items() for u, score in enumerate(values)]
        count = min(len(flat) - round(ratio * len(flat)), sum(score >= 0 for *_, score in flat))
        largest = {(name, values.index(max(values))) for name, values in rated.items()}
        forced = largest if count >= len(rated) else set()
        order = sorted(range(len(flat)), key=lambda k: (flat[k][:2] not in forced, -flat[k][2], k))
        chosen = [flat[k][:2] for k in order[:count]]
        return _one_filter(pattern, rated, {name: sorted(u for other, u in chosen if other == name) for name in rated})
    counts = (erk if budget == "erk" else uniform)(found.sites, ratio)  # tests/pruning/test_budgets.py
    best = {name: sorted(range(len(values)), key=lambda u: (-values[u], u)) for name, values in rated.items()}
    return _one_filter(pattern, rated, {name: sorted(order[: counts[name]]) for name, order in best.items()})


def _one_filter(pattern: str, rated: dict[str, list[float]], found: dict[str, list[int]]) -> dict[str, list[int]]:
    if pattern != "filter":
        return found
    return {name: kept or [rated[name].index(max(rated[name]))] for name, kept in found.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("budget", SHARED)
@quick
@given(blueprint=blueprints, ratio=ratios, seed=st.integers(0, 99))
def test_projection_is_what_sorting_everything_gives(
    pattern: str, budget: str, blueprint: list[tuple[int, int, list[int]]], ratio: float, seed: int
) -> None:
    shapes = shapes_for(pattern, blueprint)
    weights, found = whole_numbers(shapes, seed), space_of(pattern, shapes, budget, ratio)
    before = {name: w.clone() for name, w in weights.items()}
    masks = found.project(weights)
    assert {name: (tuple(m.shape), m.dtype) for name, m in masks.items()} == {
        name: (shape, torch.bool) for name, shape in shapes.items()
    }
    assert violations(pattern, masks) == []
    kept, rated = kept_units(pattern, masks), {name: scores(pattern, w.numpy()) for name, w in weights.items()}
    total, most = sum(map(len, rated.values())), sum(score >= 0 for values in rated.values() for score in values)
    exact = min(total - round(ratio * total), most)
    assert sum(map(len, kept.values())) == exact or pattern == "filter"
    assert kept == by_sorting(pattern, weights, budget, ratio)
    assert all(torch.equal(w, before[name]) for name, w in weights.items())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("budget", SHARED)
@quick
@given(blueprint=blueprints, ratio=ratios, seed=st.integers(0, 99))
def test_projecting_what_is_projected_changes_nothing(
    pattern: str, budget: str, blueprint: list[tuple[int, int, list[int]]], ratio: float, seed: int
) -> None:
    """The mask may cover other zeros, but no weight is lost."""
    shapes = shapes_for(pattern, blueprint)
    weights, found = whole_numbers(shapes, seed), space_of(pattern, shapes, budget, ratio)
    once = {name: weights[name] * mask for name, mask in found.project(weights).items()}
    again = found.project(once)
    assert all(torch.equal(once[name] * mask, once[name]) for name, mask in again.items())


@pytest.mark.parametrize("pattern", ["unstructured", "block:2x1", "1:2", "filter"])
@both
@quick
@given(
    blueprint=st.lists(st.tuples(st.integers(1, 2), st.just(1), st.just([])), min_size=1, max_size=3),
    ratio=ratios,
    seed=st.integers(0, 99),
)
def test_projection_is_the_nearest_of_all_supports(
    pattern: str, budget: str, blueprint: list[tuple[int, int, list[int]]], ratio: float, seed: int
) -> None:
    """Units of one size, so that the largest score is the largest norm."""
    blueprint = [(2 * rows if pattern.startswith("block") else rows, *rest) for rows, *rest in blueprint]
    shapes = shapes_for(pattern, blueprint)
    weights, found = whole_numbers(shapes, seed, high=9), space_of(pattern, shapes, budget, ratio)
    flat = {name: w.flatten().tolist() for name, w in weights.items()}
    every = [(name, tuple(unit)) for name, shape in shapes.items() for unit in units(pattern, shape)]
    masks, quota = found.project(weights), rounded(found.sites, uniform(found.sites, ratio))
    count = sum(len(u) for u in kept_units(pattern, masks).values())

    def allowed(chosen: tuple[tuple[str, tuple[int, ...]], ...]) -> bool:
        mask = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in shapes.items()}
        for name, unit in chosen:
            mask[name].view(-1)[list(unit)] = True
        numbers = {name: sum(other == name for other, _ in chosen) for name in shapes}
        fits = numbers == quota if budget == "uniform" else count < len(shapes) or min(numbers.values()) >= 1
        return fits and violations(pattern, mask) == []

    def distance(chosen: set[tuple[str, tuple[int, ...]]]) -> float:
        return math.fsum(flat[name][i] ** 2 for name, unit in every if (name, unit) not in chosen for i in unit)

    best = min(distance(set(chosen)) for chosen in combinations(every, count) if allowed(chosen))
    mine = {(n, unit) for n, unit in every if all(masks[n].flatten()[i] for i in unit)}
    assert distance(mine) == best


@pytest.mark.parametrize("budget", SHARED)
def test_ties_go_to_the_first_positions(budget: str) -> None:
    found = space_of("unstructured", {"a": (2, 3), "b": (2, 3)}, budget, 0.5)
    masks = found.project({"a": torch.ones(2, 3), "b": -torch.ones(2, 3)})
    if budget == "global":  # one of b, because no layer is emptied
        assert masks["a"].flatten().tolist() == [True] * 5 + [False]
        assert masks["b"].flatten().tolist() == [True] + [False] * 5
    else:
        assert masks["a"].tolist() == masks["b"].tolist() == [[True, True, True], [False, False, False]]


@pytest.mark.parametrize("pattern", PATTERNS)
@both
def test_memory_format_does_not_matter(pattern: str, budget: str) -> None:
    shapes = {"a": (4, 8, 3, 3), "b": (2, 4, 3, 3)}
    weights = whole_numbers(shapes, 0)
    last = {name: w.to(memory_format=torch.channels_last) for name, w in weights.items()}
    expected = space_of(pattern, shapes, budget, 0.8).project(weights)
    found = space_of(pattern, shapes, budget, 0.8).project(last)
    assert all(torch.equal(mask, expected[name]) for name, mask in found.items())


def test_a_schedule_asks_for_less_than_the_final_ratio() -> None:
    model = network()
    found = space(model, sparsity=0.8)
    dropped = [sum(int((~m).sum()) for m in found.project(prunable(model), done).values()) for done in (0.0, 0.3, 1.0)]
    assert dropped == [0, round(0.3 * 0.8 * 540), round(0.8 * 540)]


def test_the_channel_ratio_is_the_share_of_filters() -> None:
    model = network()
    masks = space(model, pattern="filter", channel_ratio=0.5).project(prunable(model))
    assert {name: int(m.flatten(1).any(1).sum()) for name, m in masks.items() if m.dim() > 1} == {
        "0.weight": 2,
        "3.weight": 3,
    }


@pytest.mark.parametrize("pattern", ["unstructured", "block:2x1", "2:4"])
def test_a_channel_ratio_without_channels_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=f"--channel-ratio is for --pattern channel or filter, not {pattern}"):
        space(network(), pattern=pattern, channel_ratio=0.5)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.35])
def test_filters_reach_the_sparsity_with_as_few_as_possible(sparsity: float) -> None:
    """One filter less, anywhere in the order of cutting, would miss it."""
    model = network()
    found, weights = space(model, pattern="filter", sparsity=sparsity), prunable(model)

    def zeros(dropped: int) -> int:
        masks = space(model, pattern="filter", channel_ratio=dropped / 10).project(weights)
        return sum(int((~masks[name]).sum()) for name in masks if name in weights)

    total, dropped = sum(w.numel() for w in weights.values()), round(found.ratio * 10)
    assert zeros(dropped) >= sparsity * total
    assert dropped == 0 or zeros(dropped - 1) < sparsity * total


def test_more_sparsity_than_filters_can_give_is_refused() -> None:
    """The last layer has over half of the weights here, and keeps its filters."""
    with pytest.raises(UsageError, match=r"--sparsity 0\.6"):
        space(network(), pattern="filter", sparsity=0.6)


@pytest.mark.parametrize("budget", SHARED)
def test_no_layer_is_left_without_filters(budget: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 60, 3, padding=1), nn.Conv2d(60, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    masks = space(model, pattern="filter", channel_ratio=0.9, budget=budget).project(prunable(model))
    assert all(mask.any() for mask in masks.values())


@pytest.mark.parametrize("keep_dense", ["first", "last", "first-last"])
@pytest.mark.parametrize("pattern", ["filter", "channel"])
def test_a_layer_kept_dense_keeps_its_filters(pattern: str, keep_dense: str) -> None:
    model = network()
    found = space(model, pattern=pattern, sparsity=0.1, keep_dense=keep_dense)
    masks = found.project(dict(model.named_parameters()))
    apply_masks(model, masks)
    for name in set(prunable(model)) - set(prunable(model, keep_dense)):
        assert model.get_parameter(name).flatten(1).any(1).all()


@pytest.mark.parametrize("pattern", PATTERNS[:-1])
@pytest.mark.parametrize("budget", SHARED)
def test_the_sparsity_of_a_model_is_exact_over_the_layers_that_the_pattern_touches(pattern: str, budget: str) -> None:
    """In units; of filters see above."""
    model = network()
    found = space(model, pattern=pattern, budget=budget, sparsity=0.81)
    masks = found.project(prunable(model))
    assert set(masks) == set(found.layers)
    total = sum(len(units(pattern, tuple(mask.shape))) for mask in masks.values())
    assert sum(len(u) for u in kept_units(pattern, masks).values()) == total - round(0.81 * total)


@pytest.mark.parametrize(("budget", "share"), [("uniform", uniform), ("erk", erk), ("global", None)])
def test_the_budget_of_a_model_is_the_one_asked_for(budget: str, share: Callable[..., Kept] | None) -> None:
    model = network()
    found = space(model, budget=budget, sparsity=0.7)
    kept = {name: int(mask.sum()) for name, mask in found.project(prunable(model)).items()}
    scores = {name: w.detach().abs().flatten() for name, w in prunable(model).items()}
    assert kept == (share(found.sites, 0.7) if share else by_score(found.sites, scores, 0.7))
    assert (found.budget, found.ratio) == (budget, 0.7)
    assert uniform(found.sites, 0.7) != erk(found.sites, 0.7)


def test_the_last_of_256_filters_can_be_what_a_sparsity_needs() -> None:
    weights = {"w": torch.arange(1.0, 257.0).view(256, 1)}
    found = Space((Filters("w", (256, 1), None),), {"w": 256}, {}, "global", 0.5)
    for dropped in (0, 1, 77, 128, 254, 255):
        assert int((~replace(found, sparsity=dropped / 256).project(weights)["w"]).sum()) == dropped
    with pytest.raises(UsageError, match="--sparsity 1: even one channel a layer"):
        replace(found, sparsity=1.0).project(weights)
