"""Both methods through ``prune``, and ADMM's updates, penalty and pull against the formulas in numpy."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from mobileprune.data import load
from mobileprune.errors import UsageError
from mobileprune.models.lenet5 import lenet5
from mobileprune.pruning import METHODS, PruneRecipe, PruneTask, method, prune
from mobileprune.pruning.masks import count_zeros, kept_total, project, prunable
from mobileprune.pruning.mia import EPOCHS_PER_UPDATE, RHO_FIRST, RHO_LAST, Admm
from mobileprune.resume import Checkpoint
from mobileprune.training import Examples, Progress, Recipe, fit


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 3)
    )


def examples(seed: int, count: int = 40) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(count, 1, 4, 4, generator=rng), torch.randint(0, 3, (count,), generator=rng))


def task(model: nn.Module, *, reference: int = 2, seed: int = 0, **options: object) -> PruneTask:
    places = {key: options.pop(key) for key in ("progress", "checkpoint") if key in options}
    recipe = PruneRecipe(**{"sparsity": 0.8, "admm": Recipe(3), "retrain": Recipe(2), **options})  # type: ignore[arg-type]
    return PruneTask(model, examples(1), examples(reference), 3, recipe, seed, **places)  # type: ignore[arg-type]


def pruned(name: str = "mia", **options: object) -> dict[str, Tensor]:
    model = network()
    prune(task(model, **options), METHODS[name])  # type: ignore[arg-type]
    return model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("sparsity", "keep_dense"), [(0.0, "none"), (0.77, "none"), (0.77, "last"), (0.999, "none")])
def test_sparsity_is_exact_after_retraining(name: str, scope: str, sparsity: float, keep_dense: str) -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    one = task(model, sparsity=sparsity, scope=scope, keep_dense=keep_dense)
    masks = prune(one, METHODS[name])
    weights = prunable(model, keep_dense)
    counted = count_zeros(model, list(masks))
    assert list(masks) == list(weights)
    assert counted["prunable_total"] - counted["prunable_zeros"] == kept_total(weights, sparsity)
    assert all(not weights[key][~mask].any() and weights[key][mask].all() for key, mask in masks.items())
    assert not torch.equal(before["5.bias"], model.state_dict()["5.bias"]), "it was retrained"
    assert not model.training


def test_magnitude_keeps_the_largest_weights_of_the_model_it_is_given() -> None:
    expected = project(prunable(network()), 0.8, "global")
    assert same(prune(task(network(), scope="global"), METHODS["magnitude"]), expected)


@pytest.mark.parametrize("name", METHODS)
def test_one_seed_gives_one_result(name: str) -> None:
    assert same(pruned(name, lam=1.0), pruned(name, lam=1.0))
    assert not same(pruned(name), pruned(name, seed=1))


@pytest.mark.parametrize("name", METHODS)
def test_the_reference_set_matters_only_when_lambda_is_positive(name: str) -> None:
    assert same(pruned(name, reference=2), pruned(name, reference=3))
    assert not same(pruned(name, reference=2, lam=5.0), pruned(name, reference=3, lam=5.0))


@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_the_game_is_played_in_both_stages_or_in_none(tmp_path: Path, lam: float) -> None:
    pruned(lam=lam, checkpoint=lambda stage: Checkpoint(tmp_path / stage, every_secs=0))
    played = {p.name: any("/h/" in key for key in safetensors.torch.load_file(p)) for p in tmp_path.iterdir()}
    assert played == {"ADMM": lam > 0, "retraining": lam > 0}


@pytest.mark.parametrize("stop", [("ADMM", 1), ("retraining", 1)])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, stop: tuple[str, int]) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if (what, done) == stop:
            raise KeyboardInterrupt

    def run(progress: Progress | None = None) -> dict[str, Tensor]:
        return pruned(lam=0.5, progress=progress, checkpoint=lambda stage: Checkpoint(tmp_path / stage, every_secs=0))

    with pytest.raises(KeyboardInterrupt):
        run(kill)
    assert same(run(), pruned(lam=0.5))


def test_unknown_methods_are_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'magnitude'\? choose from magnitude, mia"):
        method("magnitud")


def largest(array: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(array.size, bool)
    mask[np.argsort(-np.abs(array).ravel(), kind="stable")[:count]] = True
    return mask.reshape(array.shape)


def admm_on(weights: np.ndarray) -> tuple[Admm, nn.Linear]:
    model = nn.Linear(weights.shape[1], weights.shape[0])
    model.weight.data = torch.tensor(weights)
    return Admm(model, PruneRecipe(sparsity=0.75)), model


def test_updates_follow_the_formula() -> None:
    """Z = proj(W + U), U += W - Z; rho U is the multiplier, so U shrinks as rho grows (Boyd et al. 2011, 3.4.1)."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 6)).astype(np.float32)
    admm, model = admm_on(w)
    u, z, rho = np.zeros_like(w), w * largest(w, 6), RHO_FIRST
    growth = (RHO_LAST / RHO_FIRST) ** (EPOCHS_PER_UPDATE / PruneRecipe(sparsity=0.75).admm.epochs)
    for epoch in range(4 * EPOCHS_PER_UPDATE):
        np.testing.assert_allclose(admm.z["weight"], z, rtol=1e-6)
        np.testing.assert_allclose(admm.u["weight"], u, rtol=1e-5, atol=1e-7)
        assert admm.rho == pytest.approx(rho, rel=1e-12)
        w = w + rng.normal(0, 0.3, w.shape).astype(np.float32)
        model.weight.data = torch.tensor(w)
        admm.after_epoch(model, epoch)
        if (epoch + 1) % EPOCHS_PER_UPDATE == 0:
            z = (w + u) * largest(w + u, 6)
            u = (u + w - z) / growth
            rho *= growth
            np.testing.assert_array_equal(admm.masks["weight"], z != 0)


def test_penalty_and_its_gradient_follow_the_formula() -> None:
    rng = np.random.default_rng(1)
    w, z, u = (rng.normal(size=(4, 6)).astype(np.float32) for _ in range(3))
    admm, model = admm_on(w)
    admm.rho, admm.z, admm.u = 0.7, {"weight": torch.tensor(z)}, {"weight": torch.tensor(u)}
    value = admm.penalty(model, torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    value.backward()
    gap = w.astype(np.float64) - z + u
    assert value.item() == pytest.approx(0.35 * (gap**2).sum(), rel=1e-6)
    np.testing.assert_allclose(model.weight.grad, 0.7 * gap, rtol=1e-5, atol=1e-6)
    assert model.bias.grad is None


def test_admm_state_is_restored_exactly() -> None:
    w = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    one, model = admm_on(w)
    one.after_epoch(model, EPOCHS_PER_UPDATE - 1)
    saved = {key: value.clone() for key, value in one.state().items()}
    two, _ = admm_on(w[::-1].copy())
    two.restore(saved)
    assert one.rho == two.rho
    for admm in (one, two):
        admm.after_epoch(model, 2 * EPOCHS_PER_UPDATE - 1)
    assert same(one.state(), two.state())


def test_admm_pulls_the_weights_to_the_budget() -> None:
    """||W - Z|| falls on real data with the default recipe, and stays where it is without ADMM."""
    torch.manual_seed(0)
    members, recipe = digits(400), PruneRecipe(sparsity=0.9)
    dense = fit(lenet5(input_shape=(1, 28, 28)), members, Recipe(10, lr=2e-3), seed=0)
    free, model = copy.deepcopy(dense), copy.deepcopy(dense)
    admm = Admm(model, recipe)
    before = distance(prunable(dense), admm.z)
    fit(model, members, recipe.admm, seed=0, hooks=[admm])
    fit(free, members, recipe.admm, seed=0)
    assert distance(prunable(model), admm.z) < 0.25 * before
    assert distance(prunable(free), Admm(free, recipe).z) > 0.9 * before


def digits(count: int) -> Examples:
    images = load("digits")
    x = torch.tensor(images.pixels[:count], dtype=torch.float32)
    return Examples((x - x.mean()) / x.std(), torch.tensor(images.labels[:count]))


def distance(weights: dict[str, Tensor], z: dict[str, Tensor]) -> float:
    """||W - Z|| / ||W|| over all prunable weights."""
    w = torch.cat([w.detach().flatten() for w in weights.values()])
    return float((w - torch.cat([z[name].flatten() for name in weights])).norm() / w.norm())
