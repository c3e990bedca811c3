"""Budgets in exact fractions, projections against sorting everything and against all supports, zeros against numpy."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.pruning.masks import FrozenMask, apply_masks, count_zeros, kept_total, layer_budgets, project, prunable
from mobileprune.schemas import problems

SCOPES = ("layer", "global")
quick = settings(deadline=None, derandomize=True, max_examples=150)
sparsities = st.sampled_from([0.0, 0.001, 1 / 3, 0.5, 0.9, 0.999]) | st.floats(0, 1, exclude_max=True)
shapes = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5)
tiny = st.lists(st.integers(1, 4).map(lambda n: [n]), min_size=1, max_size=3)


def integers(shapes: list[list[int]], seed: int, high: int = 3) -> dict[str, Tensor]:
    """Small whole numbers: many ties, and squares that add up exactly."""
    rng = np.random.default_rng(seed)
    return {
        str(i): torch.tensor(rng.integers(-high, high + 1, shape), dtype=torch.float32)
        for i, shape in enumerate(shapes)
    }


def flat(tensors: dict[str, Tensor]) -> list[tuple[str, int, float]]:
    """(layer, position, magnitude) of every weight in order."""
    return [(name, i, abs(v)) for name, t in tensors.items() for i, v in enumerate(t.flatten().tolist())]


def support(masks: dict[str, Tensor]) -> set[tuple[str, int]]:
    return {(name, i) for name, i, kept in flat({k: m.float() for k, m in masks.items()}) if kept}


def by_sorting(weights: dict[str, Tensor], sparsity: float, scope: str) -> set[tuple[str, int]]:
    """Sort all weights by (forced, magnitude, position) and take the first ones."""

    def first(items: list[tuple[str, int, float]], count: int, forced: set[tuple[str, int]]) -> set[tuple[str, int]]:
        order = sorted(range(len(items)), key=lambda i: (items[i][:2] not in forced, -items[i][2], i))
        return {items[i][:2] for i in order[:count]}

    layers = {name: [item for item in flat(weights) if item[0] == name] for name in weights}
    if scope == "layer":
        budgets = layer_budgets(weights, sparsity)
        return set().union(*(first(items, budgets[name], set()) for name, items in layers.items()))
    keep = kept_total(weights, sparsity)
    largest = {max(items, key=lambda item: item[2])[:2] for items in layers.values()}
    return first(flat(weights), keep, largest if keep >= len(layers) else set())


@quick
@given(shapes=shapes, sparsity=sparsities)
def test_the_total_is_the_nearest_whole_number_and_layers_share_it(shapes: list[list[int]], sparsity: float) -> None:
    weights = integers(shapes, 0)
    sizes = {name: w.numel() for name, w in weights.items()}
    kept, budgets = kept_total(weights, sparsity), layer_budgets(weights, sparsity)
    wanted = (1 - Fraction(sparsity)) * sum(sizes.values())
    assert abs(kept - wanted) <= Fraction(1, 2) + Fraction(1, 10**12)
    assert sum(budgets.values()) == kept
    share = Fraction(kept, sum(sizes.values()))
    assert all(abs(budgets[name] - share * size) < 1 and 0 <= budgets[name] <= size for name, size in sizes.items())


@pytest.mark.parametrize("scope", SCOPES)
@quick
@given(shapes=shapes, sparsity=sparsities, seed=st.integers(0, 99))
def test_projection_is_what_sorting_everything_gives(
    scope: str, shapes: list[list[int]], sparsity: float, seed: int
) -> None:
    weights = integers(shapes, seed)
    masks = project(weights, sparsity, scope)
    assert {name: (m.shape, m.dtype) for name, m in masks.items()} == {
        name: (w.shape, torch.bool) for name, w in weights.items()
    }
    assert len(support(masks)) == kept_total(weights, sparsity)
    assert support(masks) == by_sorting(weights, sparsity, scope)


@pytest.mark.parametrize("scope", SCOPES)
@quick
@given(shapes=tiny, sparsity=sparsities, seed=st.integers(0, 99))
def test_projection_is_the_nearest_of_all_supports(
    scope: str, shapes: list[list[int]], sparsity: float, seed: int
) -> None:
    weights = integers(shapes, seed, high=9)
    items, keep, budgets = flat(weights), kept_total(weights, sparsity), layer_budgets(weights, sparsity)

    def allowed(chosen: tuple[tuple[str, int, float], ...]) -> bool:
        counts = {name: sum(item[0] == name for item in chosen) for name in weights}
        return counts == budgets if scope == "layer" else keep < len(weights) or min(counts.values()) >= 1

    def distance(chosen: set[tuple[str, int]]) -> float:
        return math.fsum(magnitude**2 for name, i, magnitude in items if (name, i) not in chosen)

    best = min(distance({c[:2] for c in chosen}) for chosen in combinations(items, keep) if allowed(chosen))
    assert distance(support(project(weights, sparsity, scope))) == best


@pytest.mark.parametrize("scope", SCOPES)
def test_ties_go_to_the_first_positions(scope: str) -> None:
    masks = project({"a": torch.ones(2, 3), "b": -torch.ones(2)}, 0.5, scope)
    assert masks["a"].tolist() == [[True, True, True], [False, False, False]]
    assert masks["b"].tolist() == [True, False]


def test_a_global_budget_keeps_a_weight_of_every_layer_while_it_can() -> None:
    weights = {"small": torch.full((4,), 1e-6), "zero": torch.zeros(3), "large": torch.arange(1.0, 94.0)}
    assert {name: int(m.sum()) for name, m in project(weights, 0.97, "global").items()} == {
        "small": 1,
        "zero": 1,
        "large": 1,
    }
    assert {name: int(m.sum()) for name, m in project(weights, 0.98, "global").items()} == {
        "small": 0,
        "zero": 0,
        "large": 2,
    }


@pytest.mark.parametrize("scope", SCOPES)
def test_memory_format_does_not_matter(scope: str) -> None:
    torch.manual_seed(0)
    weights = {"a": torch.randn(4, 3, 3, 3), "b": torch.randn(2, 4, 3, 3)}
    last = {name: w.to(memory_format=torch.channels_last) for name, w in weights.items()}
    expected = project(weights, 0.8, scope)
    assert all(torch.equal(mask, expected[name]) for name, mask in project(last, 0.8, scope).items())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("keep_dense", "names"),
    [("none", "034"), ("first", "34"), ("last", "03"), ("first-last", "3")],
)
def test_only_convolution_and_linear_weights_are_prunable_less_those_kept_dense(keep_dense: str, names: str) -> None:
    model = network()
    assert list(prunable(model, keep_dense)) == [f"{name}.weight" for name in names]
    assert prunable(model, keep_dense)["3.weight"] is model[3].weight


@pytest.mark.parametrize(
    ("model", "keep_dense"), [(nn.Linear(2, 2), "first"), (nn.Sequential(nn.BatchNorm2d(2)), "none")]
)
def test_nothing_to_prune_is_a_usage_error(model: nn.Module, keep_dense: str) -> None:
    with pytest.raises(UsageError, match=f"--keep-dense {keep_dense}"):
        prunable(model, keep_dense)


def test_a_bare_layer_is_prunable() -> None:
    assert list(prunable(nn.Linear(2, 2))) == ["weight"]


def test_a_weight_shared_by_two_layers_is_pruned_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    masks = project(prunable(model), 0.5, "layer")
    apply_masks(model, masks)
    assert count_zeros(model, list(masks))["prunable_zeros"] == 8


def test_a_weight_that_is_computed_from_others_is_refused() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)))
    with pytest.raises(MobilepruneError):
        apply_masks(model, project(prunable(model), 0.5, "layer"))


def test_zeros_are_counted_as_numpy_counts_them() -> None:
    model = network()
    names = list(prunable(model))
    masks = project(prunable(model), 0.7, "layer")
    apply_masks(model, masks)
    counted = count_zeros(model, names)
    arrays = {name: p.detach().numpy() for name, p in model.named_parameters()}
    assert counted["layers"] == {
        name: {"shape": list(a.shape), "total": a.size, "zeros": int(np.count_nonzero(a == 0))}
        for name, a in arrays.items()
        if name in names
    }
    assert counted["prunable_zeros"] == sum(int((arrays[name] == 0).sum()) for name in names)
    assert counted["prunable_total"] - counted["prunable_zeros"] == sum(int(m.sum()) for m in masks.values())
    assert counted["all_total"] == sum(a.size for a in arrays.values())
    assert counted["all_zeros"] == sum(int((a == 0).sum()) for a in arrays.values()) > counted["prunable_zeros"]
    assert problems(counted, "sparsity") == []


def test_a_frozen_mask_holds_against_an_optimiser_with_momentum() -> None:
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    masks = project(prunable(model), 0.5, "global")
    for _ in range(3):
        model(torch.randn(4, 1, 4, 4)).square().sum().backward()
        optimizer.step()
        FrozenMask(masks).after_step(model)
    for name, weight in model.named_parameters():
        mask = masks.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert not weight[~mask].any(), name
        assert not torch.equal(weight[mask], before[name][mask]), name
