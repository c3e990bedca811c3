"""The training loop against a plain one, and against itself after every possible interruption."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.defenses.minmax import MinMax
from mobileprune.errors import MobilepruneError
from mobileprune.pruning import PruneRecipe
from mobileprune.pruning.masks import FrozenMask, project, prunable
from mobileprune.pruning.mia import Admm
from mobileprune.resume import Checkpoint
from mobileprune.seeding import torch_rng
from mobileprune.training import Examples, Hook, Recipe, fit, predict

CLASSES, FEATURES = 3, 5


def examples(count: int, seed: int = 0) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(count, FEATURES, generator=rng), torch.randint(0, CLASSES, (count,), generator=rng))


def network(*, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, CLASSES)
        )


def hooks_for(model: nn.Module) -> list[Hook]:
    recipe = PruneRecipe(sparsity=0.6)
    masks = project({k: v.detach() for k, v in prunable(model).items()}, 0.25, "layer")
    return [MinMax(examples(13), examples(9, seed=1), CLASSES, lam=0.5, seed=0), Admm(model, recipe), FrozenMask(masks)]


def equal(a: nn.Module, b: nn.Module) -> bool:
    states = a.state_dict(), b.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def slow_fit(model: nn.Module, data: Examples, epochs: int, lr: float, batch_size: int, pull: float) -> nn.Module:
    """Plain PyTorch: Adam, cosine schedule, cross-entropy + pull * ||first weight||^2."""
    optimizer = torch.optim.Adam(model.parameters())
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(data.y), generator=torch_rng(0, "training", epoch)).tolist()
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        while order:
            batch, order = order[:batch_size], order[batch_size:]
            if len(batch) < 2:
                continue
            loss = functional.cross_entropy(model(data.x[batch]), data.y[batch])
            if pull:
                loss = loss + pull * model[0].weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


class Pull(Hook):
    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        return 0.01 * model[0].weight.square().sum()


@pytest.mark.parametrize(("count", "batch_size"), [(20, 8), (17, 8), (6, 64), (2, 2)])
@pytest.mark.parametrize("pull", [0, 0.01])
def test_same_weights_as_a_plain_loop(count: int, batch_size: int, pull: float) -> None:
    data = examples(count)
    fitted = fit(network(), data, Recipe(3, 0.05, batch_size), seed=0, hooks=[Pull()] if pull else [])
    assert equal(fitted, slow_fit(network(), data, 3, 0.05, batch_size, pull))
    assert not equal(fitted, network().eval())
    assert not fitted.training


class Stop(Exception):
    pass


class StopAt(Hook):
    """Ends the process, as it were, before the step number ``step`` (from 0)."""

    def __init__(self, step: int) -> None:
        self.left = step

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        if self.left == 0:
            raise Stop
        self.left -= 1


@pytest.mark.parametrize(
    ("stops", "with_hooks"),
    [([0], False), ([3], False), ([4], False), ([3, 1], False), ([3], True), ([5, 1], True)],
    ids=str,
)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    tmp_path: Path, stops: list[int], with_hooks: bool
) -> None:
    data, recipe, place = examples(13), Recipe(3, 0.05, 8), Checkpoint(tmp_path / "partial" / "c.safetensors", 0)

    def run(checkpoint: Checkpoint | None, *extra: Hook) -> tuple[nn.Module, list[Hook]]:
        torch.manual_seed(len(extra))  # what the process drew before must not matter
        model = network(dropout=0.5)
        hooks = hooks_for(model) if with_hooks else []
        return fit(model, data, recipe, seed=0, hooks=[*hooks, *extra], checkpoint=checkpoint), hooks

    whole, whole_hooks = run(None)
    for stop in stops:
        with pytest.raises(Stop):
            run(place, StopAt(stop))
    resumed, hooks = run(place)
    assert equal(resumed, whole)
    for hook, expected in zip(hooks, whole_hooks, strict=True):
        state, wanted = hook.state(), expected.state()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[k], wanted[k]) for k in state)
    assert equal(run(place)[0], whole), "a finished run answers at once"


def test_resuming_does_not_repeat_finished_epochs(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(*report: object) -> None:
        seen.append(report)
        if len(seen) == 2:
            raise Stop

    place = Checkpoint(tmp_path / "c", 0)
    with pytest.raises(Stop):
        fit(network(), examples(8), Recipe(3), seed=0, what="ADMM", checkpoint=place, progress=progress)
    fit(network(), examples(8), Recipe(3), seed=0, what="ADMM", checkpoint=place, progress=progress)
    assert seen == [("ADMM", 1, 3), ("ADMM", 2, 3), ("ADMM", 3, 3)]
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


class Sizes(Hook):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        self.seen.append(len(y))


@pytest.mark.parametrize(("count", "steps"), [(9, [4, 4]), (10, [4, 4, 2]), (8, [4, 4]), (5, [4])])
def test_a_last_batch_of_one_is_skipped(count: int, steps: list[int]) -> None:
    sizes = Sizes()
    fit(network(), examples(count), Recipe(1, batch_size=4), seed=0, hooks=[sizes])
    assert sizes.seen == steps


def test_the_only_example_is_not_skipped() -> None:
    sizes = Sizes()
    fit(nn.Linear(FEATURES, CLASSES), examples(1), Recipe(1, batch_size=4), seed=0, hooks=[sizes])
    assert sizes.seen == [1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training(bad: float) -> None:
    data = examples(8)
    data.x[3, 0] = bad
    with pytest.raises(MobilepruneError, match="retraining: the loss became nan in epoch 1; lower --lr"):
        fit(network(), data, Recipe(2, batch_size=4), seed=0, what="retraining")


def test_the_callers_generators_are_untouched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    model = network(dropout=0.5)
    fit(model, examples(20), Recipe(1), seed=0, hooks=hooks_for(model))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_seed_and_stage_decide_the_draws() -> None:
    def run(seed: int, what: str) -> nn.Module:
        return fit(network(dropout=0.5), examples(20), Recipe(2, batch_size=4), seed=seed, what=what)

    assert equal(run(1, "a"), run(1, "a"))
    assert not equal(run(1, "a"), run(2, "a"))
    assert not equal(run(1, "a"), run(1, "b"))


def test_a_frozen_mask_keeps_exact_zeros() -> None:
    model = network()
    masks = project({k: v.detach() for k, v in prunable(model).items()}, 0.5, "layer")
    fit(model, examples(20), Recipe(2, 0.1, 4), seed=0, hooks=[FrozenMask(masks)])
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name] != 0, mask) for name, mask in masks.items())


def test_predict_is_in_eval_mode_and_independent_of_the_batch_size() -> None:
    model, x = network(dropout=0.5).train(), examples(11).x
    whole = predict(model, x)
    assert (whole.shape, whole.requires_grad, model.training) == ((11, CLASSES), False, False)
    torch.testing.assert_close(predict(model, x, batch_size=4), whole)
