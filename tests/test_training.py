"""The training loop against a plain one, and against itself after every possible interruption."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.states import same
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.defenses.minmax import MinMax
from mobileprune.errors import MobilepruneError
from mobileprune.pruning import PruneRecipe, PruneTask, Space, SpaceOptions
from mobileprune.pruning.admm import Admm
from mobileprune.pruning.masks import FrozenMask, Masks, prunable
from mobileprune.resume import Checkpoint
from mobileprune.seeding import torch_rng
from mobileprune.training import Examples, Hook, Recipe, fit, predict

CLASSES, FEATURES = 3, 5


def examples(count: int, seed: int = 0) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    return Examples(
        torch.randn(count, FEATURES, 1, 1, generator=rng), torch.randint(0, CLASSES, (count,), generator=rng)
    )


def network(*, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(FEATURES, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(8, CLASSES),
        )


def hooks_for(model: nn.Module) -> list[Hook]:
    members, reference = examples(13), examples(9, seed=1)
    space = Space.of(model, SpaceOptions(0.6), members.x[:2])
    task = PruneTask(model, members, reference, CLASSES, space, PruneRecipe(), 0)
    return [MinMax(members, reference, CLASSES, lam=0.5, seed=0), Admm(task), FrozenMask(masks_of(model, 0.25))]


def masks_of(model: nn.Module, sparsity: float) -> Masks:
    return Space.of(model, SpaceOptions(sparsity), examples(2).x).project(prunable(model))


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
                loss = loss + pull * model[1].weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


class Pull(Hook):
    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        return 0.01 * model[1].weight.square().sum()


@pytest.mark.parametrize(("count", "batch_size"), [(20, 8), (17, 8), (6, 64), (2, 2)])
@pytest.mark.parametrize("pull", [0, 0.01])
def test_same_weights_as_a_plain_loop(count: int, batch_size: int, pull: float) -> None:
    data = examples(count)
    fitted = fit(network(), data, Recipe(3, 0.05, batch_size), seed=0, hooks=[Pull()] if pull else [])
    assert same(fitted, slow_fit(network(), data, 3, 0.05, batch_size, pull))
    assert not same(fitted, network().eval())
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
    assert same(resumed, whole)
    for hook, expected in zip(hooks, whole_hooks, strict=True):
        state, wanted = hook.state(), expected.state()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[k], wanted[k]) for k in state)
    assert same(run(place)[0], whole), "a finished run answers at once"


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
    fit(
        nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, CLASSES)),
        examples(1),
        Recipe(1, batch_size=4),
        seed=0,
        hooks=[sizes],
    )
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

    assert same(run(1, "a"), run(1, "a"))
    assert not same(run(1, "a"), run(2, "a"))
    assert not same(run(1, "a"), run(1, "b"))


def test_a_frozen_mask_keeps_exact_zeros() -> None:
    model = network()
    masks = masks_of(model, 0.5)
    fit(model, examples(20), Recipe(2, 0.1, 4), seed=0, hooks=[FrozenMask(masks)])
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name] != 0, mask) for name, mask in masks.items())


def test_predict_is_in_eval_mode_and_independent_of_the_batch_size() -> None:
    model, x = network(dropout=0.5).train(), examples(11).x
    whole = predict(model, x)
    assert (whole.shape, whole.requires_grad, model.training) == ((11, CLASSES), False, False)
    torch.testing.assert_close(predict(model, x, batch_size=4), whole)


class Batches(Hook):
    """A sampling of its own: three of the examples, one of them twice."""

    def batches(self, count: int, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
        yield torch.tensor([0, 3])
        yield torch.tensor([5, 0])


class Seen(Hook):
    def __init__(self) -> None:
        self.x: list[Tensor] = []

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        self.x.append(x.clone())


def test_a_hook_may_choose_the_batches() -> None:
    data, seen = examples(8), Seen()
    fit(network(), data, Recipe(1), seed=0, hooks=[seen, Batches()])
    assert len(seen.x) == 2
    assert torch.equal(torch.cat(seen.x), data.x[[0, 3, 5, 0]])


class Ends(Hook):
    """Finished after ``epochs``; notes what it is asked to do."""

    def __init__(self, epochs: int) -> None:
        self.left, self.calls = epochs, list[str]()

    def attach(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, count: int
    ) -> torch.optim.Optimizer:
        self.calls.append(f"attach {recipe.epochs} {count}")
        return torch.optim.SGD(model.parameters(), lr=0.0)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.left -= 1
        self.calls.append(f"epoch {epoch}")

    def finished(self) -> bool:
        return self.left <= 0

    def at_end(self, model: nn.Module) -> None:
        self.calls.append("end")


@pytest.mark.parametrize(("epochs", "run"), [(2, 2), (9, 5)])
def test_a_hook_may_end_the_stage_and_choose_the_optimiser(epochs: int, run: int) -> None:
    hook = Ends(epochs)
    fitted = fit(network(), examples(8), Recipe(5), seed=0, hooks=[hook, Seen()])
    assert hook.calls == ["attach 5 8", *(f"epoch {i}" for i in range(run)), "end"]
    assert not same(fitted, network()), "the optimiser learns with the rate of the recipe"


class Answers(Hook):
    """What the network answers in eval mode after the last epoch."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.logits = x, torch.empty(0)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.logits = predict(model, self.x)
        model.train()


@pytest.mark.parametrize("momentum", [0.001, 0.1, 0.5, None])
def test_running_statistics_follow_the_network_while_it_trains(momentum: float | None) -> None:
    """Whatever its momentum, which it keeps; that of PyTorch's default or more is left alone."""

    def trained(momentum: float | None) -> tuple[nn.Module, Tensor]:
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(examples(1).x[0].numel(), momentum=momentum), network())
        data = examples(40)
        hook = Answers(data.x)
        fit(model, replace(data, x=data.x + 5), Recipe(6, 0.01, 4), seed=0, hooks=[hook])
        return model, hook.logits

    model, logits = trained(momentum)
    assert model[1].momentum == momentum
    default = trained(0.1)[1]
    assert torch.equal(logits, default) == (momentum != 0.5)
    assert float(model[1].running_mean.mean()) > 4
