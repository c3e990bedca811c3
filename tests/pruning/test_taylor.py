"""Taylor saliencies against a loop over batches and weights, and whose images they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.pruning import examples, network, space, task
from support.states import same
from torch import nn
from torch.nn import functional

from mobileprune.pruning import METHODS
from mobileprune.pruning.taylor import saliency
from mobileprune.training import Examples, Recipe


def slowly(model: nn.Module, data: Examples, batch_size: int) -> dict[str, np.ndarray]:
    """sqrt of the mean over batches of (w * dL/dw)^2, in float64, by backward() and numpy."""
    model = model.double().eval()
    squares: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(data.y), batch_size):
        model.zero_grad()
        x, y = data.x[first : first + batch_size], data.y[first : first + batch_size]
        functional.cross_entropy(model(x.double()), y).backward()
        for name, w in model.named_parameters():
            squares.setdefault(name, []).append((w.detach().numpy() * w.grad.numpy()) ** 2)
    return {name: np.sqrt(np.mean(values, axis=0)) for name, values in squares.items()}


@pytest.mark.parametrize("batch_size", [7, 20, 64])
def test_saliency_is_that_of_a_plain_loop(batch_size: int) -> None:
    one = task(network(), retrain=Recipe(1, batch_size=batch_size))
    found = saliency(one, one.members)
    expected = slowly(network(), one.members, batch_size)
    assert list(found) == ["0.weight", "3.weight", "8.weight"]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-7)
        assert not value.requires_grad


def test_a_weight_that_the_loss_does_not_depend_on_has_none() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x.flatten(1))

    one = task(Idle())
    found = saliency(one, one.members)
    assert not found["idle.weight"].any()
    assert found["used.weight"].all()


def test_measuring_changes_nothing_of_the_model() -> None:
    model = network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    METHODS["taylor"](task(model))
    assert same(model.state_dict(), before)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("name", "side"), [("taylor", "members"), ("taylor-reference", "reference")])
@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1", "2:4", "filter"])
def test_masks_are_the_projection_of_the_saliencies_of_one_set_and_of_that_alone(
    name: str, side: str, pattern: str
) -> None:
    sparsity = 0.3 if pattern == "filter" else 0.8
    one = task(network(), pattern=pattern, sparsity=sparsity)
    masks = METHODS[name](one)
    values = {k: torch.tensor(v) for k, v in slowly(network(), getattr(one, side), 64).items()}
    assert same(masks, space(network(), pattern=pattern, sparsity=sparsity).project(values))
    other = "reference" if side == "members" else "members"
    nothing = replace(examples(9), x=torch.full((40, 1, 4, 4), torch.nan))
    assert same(METHODS[name](replace(one, **{other: nothing})), masks), "the other set is never looked at"
    assert not same(METHODS[name](replace(one, **{side: examples(5)})), masks)
