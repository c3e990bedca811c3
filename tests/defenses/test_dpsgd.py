"""DP-SGD step by step against per-example gradients in a loop, its noise against Opacus's accountants."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.states import same
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.defenses import DEFENSES
from mobileprune.defenses.dpsgd import CLIP_NORM, DELTA, DpSgd
from mobileprune.errors import UsageError
from mobileprune.resume import Checkpoint
from mobileprune.seeding import torch_rng
from mobileprune.training import Examples, Hook, Recipe, fit

pytest.importorskip("opacus", reason="the extra dp is not installed")
IGNORED = pytest.mark.filterwarnings("ignore:Full backward hook is firing")
"""What the hook itself says to Python in ``attach``, which a test that calls it directly has to say for itself."""


@pytest.fixture(autouse=True, scope="module")
def remembered_noise() -> Iterator[None]:
    """The accountant's search takes seconds; for equal questions it is done once."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Opacus's imports
        utils = importlib.import_module("opacus.accountants.utils")
        patch.setattr(utils, "get_noise_multiplier", functools.cache(utils.get_noise_multiplier))
        yield


def examples(count: int = 60, scale: float = 1.0) -> Examples:
    rng = torch.Generator().manual_seed(0)
    return Examples(scale * torch.randn(count, 1, 4, 4, generator=rng), torch.randint(0, 3, (count,), generator=rng))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def stepped(data: Examples, batch: list[int], *, noise: float | None = 0.0, expected: int = 16) -> Tensor:
    """What one step of SGD with learning rate 1 takes from the weights, times the expected size of a batch."""
    model, hook = network().train(), DpSgd(8.0, secret=0)
    optimizer = hook.attach(model, torch.optim.SGD(model.parameters(), lr=1.0), Recipe(4, batch_size=expected), 60)
    if noise is not None:
        optimizer.noise_multiplier = noise
    before = flat(list(model.parameters()))
    functional.cross_entropy(model(data.x[batch]), data.y[batch]).backward()
    optimizer.step()
    return (before - flat(list(model.parameters()))) * expected


def clipped(data: Examples, batch: list[int]) -> tuple[Tensor, list[float]]:
    """The sum of gradients of one example each, cut to norm C, and their norms before."""
    model, total, norms = network().train(), torch.zeros(()), []
    for i in batch:
        loss = functional.cross_entropy(model(data.x[i : i + 1]), data.y[i : i + 1])
        gradient = flat(list(torch.autograd.grad(loss, list(model.parameters()))))
        norms.append(float(gradient.norm()))
        total = total + gradient * min(1.0, CLIP_NORM / norms[-1])
    return total, norms


@IGNORED
@pytest.mark.parametrize("batch", [[3], [0, 1, 2, 3, 4], list(range(30))], ids=len)
def test_a_step_is_the_sum_of_clipped_gradients_of_each_example(batch: list[int]) -> None:
    data = examples(scale=3.0)
    total, norms = clipped(data, batch)
    assert max(norms) > CLIP_NORM, "the example is one where it matters"
    torch.testing.assert_close(stepped(data, batch), total, rtol=1e-3, atol=1e-4)


@IGNORED
def test_no_example_moves_a_step_by_more_than_the_clip_norm() -> None:
    data = examples(scale=100.0)
    everyone = list(range(20))
    whole = stepped(data, everyone)
    moved = [float((whole - stepped(data, everyone[:i] + everyone[i + 1 :])).norm()) for i in range(0, 20, 4)]
    assert max(moved) <= CLIP_NORM * (1 + 1e-4)
    assert max(moved) > 0.5 * CLIP_NORM


@IGNORED
def test_noise_has_the_standard_deviation_that_is_stated() -> None:
    """sigma C on the sum, drawn from the stream of the secret and the epoch."""
    data = examples()
    noise = stepped(data, [0, 1], noise=None) - stepped(data, [0, 1])
    hook = DpSgd(8.0, secret=0)
    model = network()
    hook.attach(model, torch.optim.SGD(model.parameters(), lr=1.0), Recipe(4, batch_size=16), 60)
    sigma = hook.noise_multiplier * CLIP_NORM
    assert float(noise.std()) == pytest.approx(sigma, rel=0.15)
    assert abs(float(noise.mean())) < 4 * sigma / len(noise) ** 0.5
    rng = torch_rng(0, "dp noise", 0)
    expected = [torch.normal(0, sigma, p.shape, generator=rng) for p in network().parameters()]
    torch.testing.assert_close(noise, flat(expected), rtol=1e-3, atol=1e-4)


@IGNORED
@pytest.mark.parametrize(
    ("epsilon", "epochs", "batch_size", "count"),
    [(8.0, 4, 16, 60), (1.0, 10, 64, 1000), (0.5, 2, 7, 50)],
)
def test_the_steps_that_are_made_spend_no_more_than_the_stated_epsilon(
    epsilon: float, epochs: int, batch_size: int, count: int
) -> None:
    """By Opacus's RDP accountant, fed with every step of ``batches``."""
    from opacus.accountants import RDPAccountant

    model, hook = network(), DpSgd(epsilon, secret=0)
    hook.attach(model, torch.optim.SGD(model.parameters(), lr=1.0), Recipe(epochs, batch_size=batch_size), count)
    accountant = RDPAccountant()
    for epoch in range(epochs):
        for _ in hook.batches(count, batch_size, torch_rng(0, epoch)):
            accountant.step(noise_multiplier=hook.noise_multiplier, sample_rate=min(1.0, batch_size / count))
    spent = accountant.get_epsilon(delta=DELTA)
    assert 0.5 * epsilon < spent <= epsilon
    assert hook.guarantee() == {
        "epsilon": epsilon,
        "delta": DELTA,
        "noise_multiplier": hook.noise_multiplier,
        "max_grad_norm": CLIP_NORM,
    }


def test_every_example_joins_a_batch_on_its_own_with_the_same_probability() -> None:
    hook, count, batch_size = DpSgd(8.0, secret=0), 40, 10
    joined = np.zeros((0, count), bool)
    for epoch in range(300):
        batches = list(hook.batches(count, batch_size, torch_rng(0, epoch)))
        assert len(batches) == count // batch_size
        assert all(len(set(batch.tolist())) == len(batch) for batch in batches)
        joined = np.concatenate([joined, [np.isin(np.arange(count), batch) for batch in batches]])
    rate, runs = batch_size / count, len(joined)
    assert np.abs(joined.mean(0) - rate).max() < 5 * (rate * (1 - rate) / runs) ** 0.5
    sizes = joined.sum(1)
    assert sizes.var() == pytest.approx(count * rate * (1 - rate), rel=0.15), "binomial, not fixed"
    together = np.corrcoef(joined.T)[~np.eye(count, dtype=bool)]
    assert np.abs(together).max() < 5 / runs**0.5


@pytest.mark.parametrize("batch_size", [60, 64])
def test_a_batch_as_large_as_the_set_holds_everyone(batch_size: int) -> None:
    batches = list(DpSgd(8.0, secret=0).batches(60, batch_size, torch_rng(0)))
    assert [batch.tolist() for batch in batches] == [list(range(60))]


def trained(seed: int = 0, *, batch_size: int = 16, extra: list[Hook] | None = None, **options: object) -> nn.Module:
    hooks = [DpSgd(8.0, secret=seed), *(extra or [])]
    return fit(network(), examples(), Recipe(4, 0.01, batch_size), seed=seed, hooks=hooks, **options)


def test_nobody_who_knows_the_seed_knows_the_noise(tmp_path: Path) -> None:
    """The manifest tells the seed. A run that continues keeps its secret."""
    runs = [fit(network(), examples(), Recipe(1, 0.01, 16), seed=0, hooks=[DpSgd(8.0)]) for _ in range(2)]
    assert not same(*runs)
    batches = [torch.cat(list(DpSgd(8.0).batches(60, 16, torch_rng(0)))).tolist() for _ in range(2)]
    assert batches[0] != batches[1]
    first, place = DpSgd(8.0), Checkpoint(tmp_path / "c", 0)
    with pytest.raises(Stop):
        fit(network(), examples(), Recipe(4, 0.01, 16), seed=0, hooks=[first, StopAt(4)], checkpoint=place)
    later = DpSgd(8.0)
    fit(network(), examples(), Recipe(4, 0.01, 16), seed=0, hooks=[later, StopAt(99)], checkpoint=place)
    assert later.secret == first.secret


def test_the_seed_and_the_secret_decide() -> None:
    first = trained()
    torch.manual_seed(5)
    assert same(first, trained())
    assert not same(first, trained(seed=1))
    assert not same(first, network())


class Stop(Exception):
    pass


class StopAt(Hook):
    def __init__(self, step: int) -> None:
        self.left = step

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop


@pytest.mark.parametrize("stops", [[0], [4], [7], [10, 1]], ids=str)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, stops: list[int]) -> None:
    """Of 4 epochs of 3 steps."""
    place, whole = Checkpoint(tmp_path / "c", 0), trained(extra=[StopAt(99)])
    for step in stops:
        with pytest.raises(Stop):
            trained(extra=[StopAt(step)], checkpoint=place)
    assert same(trained(extra=[StopAt(99)], checkpoint=place), whole)
    assert same(trained(extra=[StopAt(0)], checkpoint=place), whole), "a finished run answers at once"


def test_the_model_is_left_as_an_ordinary_one() -> None:
    """It can be trained, copied and saved as if Opacus had never been there."""
    model = trained()
    assert [type(m) for m in model.modules()] == [type(m) for m in network().modules()]
    assert all(not m._forward_hooks and not m._backward_hooks for m in model.modules())
    assert all(getattr(p, "grad_sample", None) is None for p in model.parameters())
    again = copy.deepcopy(model)
    fit(again, examples(), Recipe(1, 0.01, 16), seed=0)
    assert not same(again, model)


def test_inplace_activations_are_replaced_without_changing_the_outputs() -> None:
    model, x = network(), examples().x
    before = model(x)
    DpSgd(8.0, secret=0).attach(model, torch.optim.Adam(model.parameters()), Recipe(1), 60)
    assert not any(getattr(m, "inplace", False) for m in model.modules())
    assert torch.equal(model(x), before)


def test_an_empty_batch_still_gets_its_noise() -> None:
    """With batches of 2 of 60, one in eight is empty."""
    fitted = trained(batch_size=2)
    assert all(value.isfinite().all() for value in fitted.state_dict().values())


def test_batch_normalisation_is_refused_with_the_way_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(UsageError, match=r"dpsgd cannot train this model .*BatchNorm.*--norm group"):
        fit(model, examples(), Recipe(1), seed=0, hooks=[DpSgd(8.0, secret=0)])


@IGNORED
@pytest.mark.parametrize(
    "epsilon",
    [
        DEFENSES["dpsgd"].low,
        DEFENSES["dpsgd"].high,
    ],
)
def test_the_bounds_of_epsilon_can_be_had_or_are_refused(epsilon: float) -> None:
    model, hook = network(), DpSgd(epsilon, secret=0)
    with contextlib.suppress(UsageError):
        hook.attach(model, torch.optim.Adam(model.parameters()), Recipe(10, batch_size=64), 1000)
        assert math.isfinite(hook.noise_multiplier)
        assert hook.noise_multiplier > 0
