"""Label smoothing, confidence penalty and RelaxLoss against their formulas in numpy and against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.defenses.smoothing import ConfidencePenalty, LabelSmoothing, RelaxLoss, flattened
from mobileprune.training import Examples, Hook, Recipe, fit

quick = settings(max_examples=60)
batches = st.tuples(st.integers(1, 7), st.integers(2, 6), st.integers(0, 99))
MODEL = nn.Identity()


def batch(count: int, classes: int, seed: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    z = scale * torch.randn(count, classes, generator=rng)
    return z.requires_grad_(), torch.randint(0, classes, (count,), generator=rng)


def objective(hook: Hook, z: Tensor, y: Tensor) -> Tensor:
    """What the loop minimises."""
    penalty = hook.penalty(MODEL, z, y)
    loss = functional.cross_entropy(z, y)
    return loss if penalty is None else loss + penalty


def gradient(value: Tensor, z: Tensor) -> Tensor:
    return torch.autograd.grad(value, z)[0]


def softmax(z: Tensor) -> np.ndarray:
    e = np.exp(z.detach().double().numpy())
    return e / e.sum(1, keepdims=True)


@quick
@given(batches, st.floats(0, 1))
def test_label_smoothing_is_torchs(shape: tuple[int, int, int], share: float) -> None:
    z, y = batch(*shape)
    found, expected = objective(LabelSmoothing(share), z, y), functional.cross_entropy(z, y, label_smoothing=share)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient(found, z), gradient(expected, z), rtol=1e-4, atol=1e-6)


@quick
@given(batches, st.floats(0, 10))
def test_the_confidence_penalty_is_minus_beta_times_the_mean_entropy(shape: tuple[int, int, int], beta: float) -> None:
    z, y = batch(*shape)
    p = softmax(z)
    entropy = np.mean([-sum(v * np.log(v) for v in row) for row in p])
    found = ConfidencePenalty(beta).penalty(MODEL, z, y)
    assert found.item() == pytest.approx(-beta * entropy, rel=1e-4, abs=1e-6)
    expected = beta * torch.distributions.Categorical(logits=z).entropy().mean().neg()
    torch.testing.assert_close(gradient(found, z), gradient(expected, z), rtol=1e-4, atol=1e-6)


def test_the_confidence_penalty_of_sure_outputs_is_finite() -> None:
    z = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    found = ConfidencePenalty(1.0).penalty(MODEL, z, torch.tensor([0]))
    assert found.item() == 0
    assert gradient(found, z).isfinite().all()


@quick
@given(batches)
def test_flattening_keeps_the_label_and_shares_the_rest(shape: tuple[int, int, int]) -> None:
    z, y = batch(*shape)
    p = softmax(z)
    expected = np.empty_like(p)
    for i, own in enumerate(y.tolist()):
        for k in range(p.shape[1]):
            expected[i, k] = p[i, own] if k == own else (1 - p[i, own]) / (p.shape[1] - 1)
    found = flattened(torch.tensor(p), y)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


@quick
@given(batches, st.floats(0, 4), st.integers(0, 3))
def test_relaxloss_is_algorithm_1(shape: tuple[int, int, int], level: float, epoch: int) -> None:
    z, y = batch(*shape)
    hook = RelaxLoss(level)
    for done in range(epoch):
        hook.after_epoch(MODEL, done)
    p = softmax(z)
    own = p[np.arange(len(y)), y]
    loss = float(np.mean(-np.log(own)))
    if abs(loss - level) < 1e-5:
        return
    if loss > level:
        expected, slope = loss, (p - np.eye(p.shape[1])[y]) / len(y)
    elif epoch % 2 == 0:  # ascent: |L - level|
        expected, slope = level - loss, -(p - np.eye(p.shape[1])[y]) / len(y)
    else:  # towards targets that count as constants
        target = flattened(torch.tensor(p), y).numpy()
        expected, slope = float(np.mean(-(target * np.log(p)).sum(1))), (p - target) / len(y)
    found = objective(hook, z, y)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(gradient(found, z), slope, rtol=1e-3, atol=1e-5)


def test_relaxloss_holds_the_loss_of_its_members_at_the_level() -> None:
    """Where plain training brings it near 0."""
    rng = torch.Generator().manual_seed(0)
    data = Examples(torch.randn(32, 20, 1, 1, generator=rng), torch.randint(0, 3, (32,), generator=rng))
    losses = {}
    for name, hooks in {"plain": [], "relaxed": [RelaxLoss(0.6)]}.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
        fit(model, data, Recipe(60, 0.02, 32), seed=0, hooks=hooks)
        losses[name] = functional.cross_entropy(model(data.x), data.y).item()
    assert losses["plain"] < 0.05
    assert losses["relaxed"] == pytest.approx(0.6, abs=0.15)


def test_the_parity_of_the_epoch_is_restored() -> None:
    one, two = RelaxLoss(1.0), RelaxLoss(1.0)
    one.after_epoch(MODEL, 0)
    two.restore({key: value.clone() for key, value in one.state().items()})
    z, y = batch(4, 3, 0, scale=0.1)
    assert objective(one, z, y) == objective(two, z, y)
    assert (one.epoch, two.epoch) == (1, 1)


def test_soft_labels_can_be_smoothed_and_penalised() -> None:
    """As distillation gives them."""
    z, _ = batch(4, 3, 0)
    p = torch.softmax(torch.arange(12.0).view(4, 3), 1)
    expected = 0.8 * functional.cross_entropy(z, p) - 0.2 * z.log_softmax(1).mean()
    torch.testing.assert_close(objective(LabelSmoothing(0.2), z, p), expected)
    assert objective(ConfidencePenalty(0.5), z, p).isfinite()
