"""Folding against the model it folds, statistics against numpy, dead and living channels, and what fx cannot trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobileprune.convert.fold_bn import fold_bn, neutralise_dead_channels, reestimate

NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random affine part and running statistics, as after training."""
    rng = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, NORMS):
            if norm.affine:
                nn.init.normal_(norm.weight, generator=rng)
                nn.init.normal_(norm.bias, generator=rng)
            if norm.running_mean is not None and norm.running_var is not None:
                norm.running_mean.normal_(generator=rng)
                norm.running_var.uniform_(0.5, 2, generator=rng)
    return model.eval()


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def folded_equals(model: nn.Module, x: Tensor, atol: float = 1e-5) -> nn.Module:
    before = copy.deepcopy(model.state_dict())
    expected = model(x)
    folded = fold_bn(model)
    torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=atol)
    assert folded is not model
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), (
        "the original is untouched"
    )
    return folded


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, NORMS) for m in model.modules())


class Net(nn.Module):
    """Convolution and batch normalisation; subclasses use them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1, bias=False), nn.BatchNorm2d(5)],
        [nn.Conv2d(3, 6, 3, stride=2, groups=3), nn.BatchNorm2d(6, eps=0.1), nn.ReLU(), nn.Dropout(0.5)],
        [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)],
        [nn.Flatten(2), nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)],
    ],
    ids=["conv", "grouped", "no-affine", "conv1d"],
)
def test_folding_keeps_the_outputs_and_leaves_no_normalisation(layers: list[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    assert norms(folded_equals(randomised(nn.Sequential(*layers), seed), images(5, 3, 8, 8))) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_normalisation_behind_linear_layers_keeps_the_outputs(bias: bool) -> None:
    layers = [nn.Flatten(), nn.Linear(192, 7, bias), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3), nn.BatchNorm1d(3)]
    folded_equals(randomised(nn.Sequential(*layers)), images(5, 3, 8, 8))


def test_a_residual_net_is_folded() -> None:
    class Residual(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x + self.norm(self.conv(x)))

    assert norms(folded_equals(randomised(Residual()), images(4, 3, 6, 6))) == 0


class DataDependent(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x if x.sum() > 0 else -x))


class AsksForLength(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) / len(x)


class ChecksItsInput(Net):
    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise ValueError("x must be a tensor")
        return self.norm(self.conv(x))


class Iterates(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image.sum(0) for image in self.norm(self.conv(x))])


@pytest.mark.parametrize("kind", [DataDependent, AsksForLength, ChecksItsInput, Iterates])
def test_what_fx_cannot_trace_is_returned_unfolded(kind: type[Net]) -> None:
    model = randomised(kind())
    for sign in (1, -1):
        folded_equals(model, sign * images(4, 3, 6, 6).abs())


class SharedConvolution(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv(torch.relu(self.norm(self.conv(x)))))


class Recurrent(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(torch.relu(self.norm(self.conv(x)))))


class AlsoWithoutNorm(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.norm(self.conv(x))))


class OverPositions(nn.Module):
    """BatchNorm1d normalises dimension 1, the linear layer works on dimension 2."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x[:, 0]))


@pytest.mark.parametrize("kind", [SharedConvolution, Recurrent, AlsoWithoutNorm, OverPositions])
def test_layers_that_must_not_be_folded_keep_their_outputs(kind: type[nn.Module]) -> None:
    folded_equals(randomised(kind()), images(4, 3, 6, 6))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)),
        nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)),
        nn.Conv2d(3, 2, 3),
        nn.BatchNorm2d(3),
    ],
    ids=["norm-first", "transposed", "no-statistics", "no-norm", "only-norm"],
)
def test_what_has_nothing_to_fold_into_is_kept(model: nn.Module) -> None:
    assert norms(folded_equals(randomised(model), images(4, 3, 6, 6))) == norms(model)


def batch_statistics(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return y.mean((0, 2, 3), dtype=np.float64), y.var((0, 2, 3), dtype=np.float64, ddof=1)


@pytest.mark.parametrize("batch_size", [256, 16])
def test_statistics_are_the_mean_over_batches_of_numpy_mean_and_variance(batch_size: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm2d(4)).train()
    momentum = model[1].momentum
    x = images(48, 3, 6, 6)
    assert reestimate(randomised(model), x, batch_size) is model
    first = [batch_statistics(model[0](part).detach().numpy()) for part in x.split(batch_size)]
    np.testing.assert_allclose(model[1].running_mean, np.mean([m for m, _ in first], 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model[1].running_var, np.mean([v for _, v in first], 0), rtol=1e-4)
    assert model[1].momentum == model[4].momentum == momentum
    assert not any(m.training for m in model.modules())
    if batch_size == 256:  # with one batch the second layer sees what it will see, and no dropout
        mean, var = batch_statistics(model[:3](x).detach().numpy())
        np.testing.assert_allclose(model[4].running_mean, mean, rtol=1e-2)
        np.testing.assert_allclose(model[4].running_var, var, rtol=1e-2)


def test_reestimating_changes_statistics_only() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    before = copy.deepcopy(model.state_dict())
    reestimate(model, images(8, 3, 6, 6))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_a_model_without_normalisation_is_not_run() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert reestimate(model, torch.zeros(0)) is model


def half_dead(scale: float = 0.0) -> nn.Sequential:
    """Two of four filters scaled by ``scale`` and made constant for scale 0."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    randomised(model)
    with torch.no_grad():
        model[0].weight[:2] *= scale
        model[0].bias[:2] = torch.tensor([0.5, -2.0])
        model[1].bias[:2] = 1.0  # the ReLU behind lets them pass
    return reestimate(model, images(64, 3, 8, 8))  # type: ignore[return-value]


def test_dead_channels_keep_their_output_without_a_blow_up() -> None:
    torch.manual_seed(0)
    model, x = half_dead(), images(5, 3, 8, 8, seed=1)
    folded = folded_equals(model, x)
    weight, bias = folded.get_parameter("0.weight"), folded.get_parameter("0.bias")
    assert not weight[:2].any()
    torch.testing.assert_close(bias[:2], model[1].bias[:2])
    neutral = neutralise_dead_channels(copy.deepcopy(model))[1]
    assert [neutral.weight[:2].tolist(), neutral.running_mean[:2].tolist(), neutral.running_var[:2].tolist()] == [
        [0, 0],
        [0, 0],
        [1, 1],
    ]
    assert torch.equal(neutral.weight[2:], model[1].weight[2:])
    half = folded(x).half().float(), copy.deepcopy(folded).half()(x.half()).float()
    torch.testing.assert_close(*half, rtol=0, atol=0.05)


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-4])
def test_small_but_living_channels_keep_their_outputs(scale: float) -> None:
    torch.manual_seed(0)
    model = half_dead(scale)
    folded_equals(model, images(5, 3, 8, 8, seed=1), atol=2e-4)
