"""ADMM's updates, penalty and pull against the formulas in numpy, for every pattern."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.pruning import PATTERNS, network, space, task, violations
from support.states import same
from torch import Tensor, nn

from mobileprune.data import load
from mobileprune.models.lenet5 import lenet5
from mobileprune.pruning import METHODS, PruneRecipe, PruneTask, Space, SpaceOptions
from mobileprune.pruning.admm import EPOCHS_PER_UPDATE, RHO_FIRST, RHO_LAST, Admm, admm
from mobileprune.pruning.masks import prunable
from mobileprune.training import Examples, Recipe, fit


def largest(array: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(array.size, bool)
    mask[np.argsort(-np.abs(array).ravel(), kind="stable")[:count]] = True
    return mask.reshape(array.shape)


def admm_on(weights: np.ndarray) -> tuple[Admm, nn.Linear]:
    model = nn.Linear(weights.shape[1], weights.shape[0])
    model.weight.data = torch.tensor(weights)
    only = replace(task(network()), model=model, space=space(model, sparsity=0.75), recipe=PruneRecipe())
    return Admm(only), model


def test_mia_is_admm() -> None:
    assert METHODS["mia"] is METHODS["admm"] is admm


def test_updates_follow_the_formula() -> None:
    """Z = proj(W + U), U += W - Z; rho U is the multiplier, so U shrinks as rho grows (Boyd et al. 2011, 3.4.1)."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 6)).astype(np.float32)
    hook, model = admm_on(w)
    u, z, rho = np.zeros_like(w), w * largest(w, 6), RHO_FIRST
    growth = (RHO_LAST / RHO_FIRST) ** (EPOCHS_PER_UPDATE / PruneRecipe().search.epochs)
    for epoch in range(4 * EPOCHS_PER_UPDATE):
        np.testing.assert_allclose(hook.z["weight"], z, rtol=1e-6)
        np.testing.assert_allclose(hook.u["weight"], u, rtol=1e-5, atol=1e-7)
        assert hook.rho == pytest.approx(rho, rel=1e-12)
        w = w + rng.normal(0, 0.3, w.shape).astype(np.float32)
        model.weight.data = torch.tensor(w)
        hook.after_epoch(model, epoch)
        if (epoch + 1) % EPOCHS_PER_UPDATE == 0:
            z = (w + u) * largest(w + u, 6)
            u = (u + w - z) / growth
            rho *= growth
            np.testing.assert_array_equal(hook.masks["weight"], z != 0)


def test_penalty_and_its_gradient_follow_the_formula() -> None:
    rng = np.random.default_rng(1)
    w, z, u = (rng.normal(size=(4, 6)).astype(np.float32) for _ in range(3))
    hook, model = admm_on(w)
    hook.rho, hook.z, hook.u = 0.7, {"weight": torch.tensor(z)}, {"weight": torch.tensor(u)}
    value = hook.penalty(model, torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    value.backward()
    gap = w.astype(np.float64) - z + u
    assert value.item() == pytest.approx(0.35 * (gap**2).sum(), rel=1e-6)
    np.testing.assert_allclose(model.weight.grad, 0.7 * gap, rtol=1e-5, atol=1e-6)
    assert model.bias.grad is None


@pytest.mark.parametrize("pattern", [*PATTERNS, "channel"])
def test_z_has_the_pattern_and_is_nonzero_where_the_mask_keeps(pattern: str) -> None:
    model = network()
    hook = Admm(task(model, pattern=pattern, sparsity=0.76 if pattern not in ("filter", "channel") else 0.3))
    weights = {name: model.get_parameter(name).detach() for name in hook.z}
    assert violations(pattern, hook.masks) == []
    assert hook.z.keys() == hook.u.keys() <= hook.masks.keys(), "a mask may cover biases, which are not pulled"
    for name, z in hook.z.items():
        assert torch.equal(z, torch.where(hook.masks[name], weights[name], 0.0))


def test_state_is_restored_exactly() -> None:
    w = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    one, model = admm_on(w)
    one.after_epoch(model, EPOCHS_PER_UPDATE - 1)
    saved = {key: value.clone() for key, value in one.state().items()}
    two, _ = admm_on(w[::-1].copy())
    two.restore(saved)
    assert one.rho == two.rho
    for hook in (one, two):
        hook.after_epoch(model, 2 * EPOCHS_PER_UPDATE - 1)
    assert same(one.state(), two.state())


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_the_last_masks_belong_to_the_last_update_however_short_the_stage(epochs: int) -> None:
    """A stage shorter than EPOCHS_PER_UPDATE still has one update."""
    model = network()
    one = task(model, search=Recipe(epochs, decay=False))
    start = Admm(one).masks
    assert not same(admm(one), start)


def test_admm_pulls_the_weights_to_the_budget() -> None:
    """||W - Z|| falls on real data with the default recipe, and stays where it is without ADMM."""
    torch.manual_seed(0)
    members = digits(400)
    dense = fit(lenet5(input_shape=(1, 28, 28)), members, Recipe(10, lr=2e-3), seed=0)
    free, model = copy.deepcopy(dense), copy.deepcopy(dense)

    def hook_of(net: nn.Module) -> Admm:
        found = Space.of(net, SpaceOptions(0.9), members.x[:2])
        return Admm(PruneTask(net, members, members, 10, found, PruneRecipe(), 0))

    hook = hook_of(model)
    before = distance(prunable(dense), hook.z)
    fit(model, members, PruneRecipe().search, seed=0, hooks=[hook])
    fit(free, members, PruneRecipe().search, seed=0)
    assert distance(prunable(model), hook.z) < 0.25 * before
    assert distance(prunable(free), hook_of(free).z) > 0.9 * before


def digits(count: int) -> Examples:
    images = load("digits")
    x = torch.tensor(images.pixels[:count], dtype=torch.float32)
    return Examples((x - x.mean()) / x.std(), torch.tensor(images.labels[:count]))


def distance(weights: dict[str, Tensor], z: dict[str, Tensor]) -> float:
    """||W - Z|| / ||W|| over all prunable weights."""
    w = torch.cat([w.detach().flatten() for w in weights.values()])
    return float((w - torch.cat([z[name].flatten() for name in weights])).norm() / w.norm())
