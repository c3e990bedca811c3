"""Early stopping against a run of full length that is looked back on."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.states import same
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.defenses.early_stopping import EarlyStopping
from mobileprune.resume import Checkpoint
from mobileprune.training import Examples, Hook, Recipe, fit

EPOCHS, RECIPE = 12, Recipe(12, 0.02, 8)
State = dict[str, Tensor]


def examples(seed: int, count: int = 24) -> Examples:
    """Half signal, half noise: something to learn, and much to know by heart."""
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, 30, 1, 1, generator=rng), torch.randint(0, 3, (count,), generator=rng)
    x[:, 0, 0, 0] += 1.5 * y
    return Examples(x, y)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(30, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 3)
    )


class History(Hook):
    def __init__(self) -> None:
        self.states: list[State] = []

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.states.append(copy.deepcopy(model.state_dict()))


def looked_back(patience: int) -> tuple[State, int, list[float]]:
    """The weights to be taken, the epochs run until then, and the loss after each epoch."""
    history, losses = History(), []
    fit(network(), examples(0), RECIPE, seed=0, hooks=[history])
    reference = examples(1)
    for state in history.states:
        model = network()
        model.load_state_dict(state)
        with torch.no_grad():
            losses.append(float(functional.cross_entropy(model.eval()(reference.x), reference.y)))
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss < losses[best] else best
        if epoch - best == patience:
            break
    return history.states[best], epoch + 1, losses


@pytest.mark.parametrize("patience", [1, 2, 4, 100])
def test_it_stops_and_takes_the_best_weights(patience: int) -> None:
    expected, epochs, losses = looked_back(patience)
    heard: list[int] = []
    hook = EarlyStopping(examples(1), patience)
    fitted = fit(network(), examples(0), RECIPE, seed=0, hooks=[hook], progress=lambda what, n, total: heard.append(n))
    assert same(fitted.state_dict(), expected)
    assert len(heard) == epochs
    assert hook.best == pytest.approx(min(losses[:epochs]), rel=1e-6)
    assert not fitted.training
    assert (epochs < EPOCHS) == (patience < 100), "the example is one where it matters"


class Kill(Exception):
    pass


class KillAt(Hook):
    def __init__(self, calls: int) -> None:
        self.left = calls

    def finished(self) -> bool:
        self.left -= 1
        if self.left < 0:
            raise Kill
        return False

    def at_end(self, model: nn.Module) -> None:
        self.finished()


@pytest.mark.parametrize("patience", [2, 100])
def test_killed_anywhere_it_resumes_to_the_same_weights(tmp_path: Path, patience: int) -> None:
    """After any epoch, and between the last one and the return to the best weights."""
    expected, epochs, _ = looked_back(patience)
    for calls in range(1, epochs + 2, 1 if patience == 2 else 4):
        place = Checkpoint(tmp_path / str(calls), 0)

        def run(*extra: Hook, place: Checkpoint = place) -> State:
            hooks = [*extra, EarlyStopping(examples(1), patience)]
            return fit(network(), examples(0), RECIPE, seed=0, hooks=hooks, checkpoint=place).state_dict()

        with pytest.raises(Kill):
            run(KillAt(calls))
        heard = run(KillAt(10**6))
        assert same(heard, expected), calls


def test_a_reference_loss_that_is_not_a_number_is_no_improvement() -> None:
    reference = examples(1)
    reference.x[0, 0] = torch.nan
    hook = EarlyStopping(reference, 2)
    heard: list[int] = []
    fit(network(), examples(0), RECIPE, seed=0, hooks=[hook], progress=lambda what, n, total: heard.append(n))
    assert (heard, hook.weights) == ([1, 2], {})


def test_looking_at_the_reference_set_changes_nothing_of_the_training() -> None:
    plain, watched = History(), History()
    fit(network(), examples(0), RECIPE, seed=0, hooks=[plain])
    fit(network(), examples(0), RECIPE, seed=0, hooks=[EarlyStopping(examples(1), 100), watched])
    assert all(same(a, b) for a, b in zip(plain.states, watched.states, strict=True))
