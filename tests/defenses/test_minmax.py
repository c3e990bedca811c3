"""The min-max game: h as the paper draws it, G against its formula, and who steps when and in which direction."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.defenses.minmax import ASCENT_STEPS, InferenceModel, MinMax
from mobileprune.training import Examples, Recipe, fit

CLASSES = 3


def labels(count: int) -> Tensor:
    return torch.arange(count) % CLASSES


def toy() -> tuple[nn.Linear, Examples, Examples]:
    """A classifier that is sure of its members and has no idea of the reference set: easy to tell apart."""
    model = nn.Linear(CLASSES, CLASSES, bias=False)
    model.weight.data = torch.eye(CLASSES)
    y = labels(24)
    return model, Examples(4.0 * functional.one_hot(y, CLASSES), y), Examples(torch.zeros(24, CLASSES), y)


def new_game(seed: int = 0) -> MinMax:
    _, members, reference = toy()
    return MinMax(members, reference, CLASSES, lam=2.0, seed=seed)


def gain(h: InferenceModel, inside: Tensor, inside_y: Tensor, outside: Tensor, outside_y: Tensor) -> float:
    """G by its formula, in float64."""
    p_in = 1 / (1 + np.exp(-h(inside, inside_y).detach().double().numpy()))
    p_out = 1 / (1 + np.exp(-h(outside, outside_y).detach().double().numpy()))
    return float(0.5 * np.log(p_in).mean() + 0.5 * np.log(1 - p_out).mean())


def widths(part: nn.Module) -> list[int]:
    layers = [m for m in part.modules() if isinstance(m, nn.Linear)]
    return [layers[0].in_features, *(m.out_features for m in layers)]


def test_h_has_the_documented_layers() -> None:
    h = InferenceModel(10)
    assert widths(h.outputs) == [10, 1024, 512, 64]
    assert widths(h.label) == [10, 512, 64]
    assert widths(h.joined) == [128, 256, 64, 1]
    linear = [m for m in h.modules() if isinstance(m, nn.Linear)]
    assert sum(isinstance(m, nn.ReLU) for m in h.modules()) == len(linear) - 1
    assert all(not m.bias.any() for m in linear)
    weights = torch.cat([m.weight.detach().flatten() for m in linear])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.01)
    assert float(weights.mean()) == pytest.approx(0, abs=1e-4)


def test_h_sees_probabilities_and_label_only() -> None:
    torch.manual_seed(0)
    h, logits = InferenceModel(CLASSES), torch.randn(5, CLASSES)
    for p in h.parameters():
        p.data.mul_(20)
    assert h(logits, labels(5)).shape == (5,)
    torch.testing.assert_close(h(logits + 7, labels(5)), h(logits, labels(5)))
    assert (h(logits, labels(5)) != h(logits, (labels(5) + 1) % CLASSES)).all()


def test_the_optimiser_is_adam_as_documented() -> None:
    optimizer = new_game().optimizer
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("reference", [8, 5])
def test_one_call_is_seven_ascent_steps_on_the_gain(reference: int) -> None:
    """Against binary cross-entropy; a batch is a whole set, so which examples are drawn does not matter."""
    rng = torch.Generator().manual_seed(0)
    model, members = toy()[0], Examples(torch.randn(8, CLASSES, generator=rng), labels(8))
    outside = Examples(torch.randn(reference, CLASSES, generator=rng), labels(reference))
    game = MinMax(members, outside, CLASSES, lam=1.0, seed=0)
    for p in game.h.parameters():
        p.data.mul_(5)
    h = copy.deepcopy(game.h)
    game.optimizer = torch.optim.SGD(game.h.parameters(), lr=0.1)  # Adam would blow up rounding errors
    descent = torch.optim.SGD(h.parameters(), lr=0.1)
    for _ in range(7):
        minus_gain = torch.zeros(())
        for side, member in ((members, 1.0), (outside, 0.0)):
            p = h(model(side.x).detach(), side.y).sigmoid()
            minus_gain = minus_gain + 0.5 * functional.binary_cross_entropy(p, torch.full_like(p, member))
        descent.zero_grad()
        minus_gain.backward()
        descent.step()
    start = copy.deepcopy(game.h.state_dict())
    game.before_step(model, members.x, members.y, torch.Generator().manual_seed(3))
    assert ASCENT_STEPS == 7
    for name, value in h.state_dict().items():
        assert not torch.equal(value, start[name])
        torch.testing.assert_close(game.h.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_every_classifier_step_is_preceded_by_seven_ascent_steps() -> None:
    model, members, _ = toy()
    game, images = new_game(), Examples(members.x[:, :, None, None], members.y)
    fit(nn.Sequential(nn.Flatten(), model), images, Recipe(epochs=2, batch_size=8), seed=0, hooks=[game])
    assert int(game.state()["optimizer/0/step"]) == 2 * 3 * 7


def test_ascent_raises_the_gain_from_a_coin_flip_to_near_certainty() -> None:
    model, members, reference = toy()
    game, rng = new_game(), torch.Generator().manual_seed(0)
    gains = [gain(game.h, members.x, members.y, reference.x, reference.y)]
    for _ in range(10):
        game.before_step(model, members.x, members.y, rng)
        gains.append(gain(game.h, model(members.x), members.y, model(reference.x), reference.y))
    assert gains[0] == pytest.approx(-np.log(2), abs=1e-2)
    assert gains[-1] > -0.01


def test_a_step_of_the_adversary_changes_nothing_of_the_classifier() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(CLASSES, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES)).train()
    _, members, reference = toy()
    before = copy.deepcopy(model.state_dict())
    game = MinMax(members, Examples(reference.x + 100, reference.y), CLASSES, lam=1.0, seed=0)
    game.before_step(model, members.x, members.y, torch.Generator().manual_seed(0))
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert changed == []
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def trained() -> tuple[nn.Linear, Examples, Examples, MinMax]:
    model, members, reference = toy()
    game, rng = new_game(), torch.Generator().manual_seed(0)
    for _ in range(5):
        game.before_step(model, members.x, members.y, rng)
    return model, members, reference, game


def test_penalty_is_lambda_times_the_members_part_of_the_gain() -> None:
    model, members, _, game = trained()
    p = 1 / (1 + np.exp(-game.h(members.x, members.y).detach().double().numpy()))
    penalty = game.penalty(model, model(members.x), members.y)
    assert penalty.item() == pytest.approx(2.0 * 0.5 * np.log(p).mean(), rel=1e-4)


def test_descent_on_the_penalty_lowers_the_gain() -> None:
    model, members, reference, game = trained()

    def current() -> float:
        return gain(game.h, model(members.x), members.y, model(reference.x), reference.y)

    before, optimizer = current(), torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        game.penalty(model, model(members.x), members.y).backward()
        optimizer.step()
    assert current() < before - 0.1


def test_state_is_restored_exactly() -> None:
    model, members, _, game = trained()
    saved = {key: value.clone() for key, value in game.state().items()}
    other = new_game(seed=1)
    assert not torch.equal(other.h.state_dict()["joined.1.weight"], saved["h/joined.1.weight"])
    other.restore(saved)
    for one in (game, other):
        one.before_step(model, members.x, members.y, torch.Generator().manual_seed(5))
    assert game.state().keys() == other.state().keys() == saved.keys()
    assert all(torch.equal(value, other.state()[key]) for key, value in game.state().items())


def test_h_starts_from_the_seed_and_leaves_torchs_own_generator_alone() -> None:
    examples = toy()[1]
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = MinMax(examples, examples, CLASSES, lam=1.0, seed=0).h.state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = (new_game(seed).h.state_dict() for seed in (0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["joined.1.weight"], other["joined.1.weight"])
