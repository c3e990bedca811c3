"""Distillation: the labels are the dense model's, and no member is ever looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.pruning import examples, network, task
from support.states import same

from mobileprune.defenses.distill import distilled
from mobileprune.errors import UsageError
from mobileprune.pruning import METHODS, PruneTask, prune
from mobileprune.training import Examples, Recipe, fit, predict


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0])
def test_labels_are_the_dense_models_probabilities_on_the_reference_set(temperature: float) -> None:
    dense, reference = network(), examples(2)
    fit(dense, examples(1), Recipe(3, 0.02), seed=0)
    found = distilled(dense, reference, temperature)
    z = predict(dense, reference.x).double().numpy() / temperature
    p = np.exp(z - z.max(1, keepdims=True))
    np.testing.assert_allclose(found.y, p / p.sum(1, keepdims=True), rtol=1e-4, atol=1e-7)
    assert found.x is reference.x
    assert found.y.dtype == torch.float32
    relabelled = Examples(reference.x, (reference.y + 1) % 3)
    assert torch.equal(distilled(dense, relabelled, temperature).y, found.y), "reference labels are not used"


def test_pixels_stay_pixels() -> None:
    pixels = torch.randint(0, 256, (10, 1, 4, 4), dtype=torch.uint8)
    reference = Examples(pixels, torch.arange(10) % 3, torch.full((1, 1, 1), 0.4), torch.full((1, 1, 1), 0.3))
    found, dense = distilled(network(), reference, 1.0), network()
    assert (found.x, found.mean, found.std) == (reference.x, reference.mean, reference.std)
    assert torch.equal(found.y, predict(dense, *reference.split(10)).softmax(1))


def test_without_a_dense_model_it_is_refused() -> None:
    with pytest.raises(UsageError, match="distill needs a dense model"):
        distilled(None, examples(2), 1.0)


def poisoned(one: PruneTask) -> PruneTask:
    """With members that nobody can look at unpunished."""
    return replace(one, members=Examples(torch.full((40, 1, 4, 4), torch.nan), torch.full((40,), 10**9)))


@pytest.mark.parametrize("name", ["magnitude", "random", "gradual", "admm", "taylor-reference"])
def test_members_are_never_touched(name: str) -> None:
    states = []
    for change in (poisoned, lambda one: one):
        one = change(task(network(), defense="distill+ppb"))
        prune(one, METHODS[name])
        states.append(one.model.state_dict())
    assert all(value.isfinite().all() for value in states[0].values())
    assert same(*states)


def test_the_pruned_model_comes_to_imitate_the_dense_one() -> None:
    """As it was before pruning, whatever the pruning stage does to the weights."""
    dense = fit(network(), examples(1, 200), Recipe(20, 0.02), seed=0)
    reference = examples(2, 300)
    wanted = predict(dense, reference.x).softmax(1)
    gaps = {}
    for epochs in (0, 40):
        model = network()
        model.load_state_dict(dense.state_dict())
        one = task(model, sparsity=0.5, defense="distill", retrain=Recipe(epochs, 0.01))
        prune(poisoned(replace(one, reference=reference)), METHODS["magnitude"])
        gaps[epochs] = float((predict(model, reference.x).softmax(1) - wanted).abs().mean())
    assert gaps[40] < 0.7 * gaps[0]
    assert gaps[40] < 0.06
