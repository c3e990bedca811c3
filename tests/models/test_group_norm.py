"""Group norm in place of batch norm: the same network otherwise, and no example sees the others of its batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError
from mobileprune.models import build
from mobileprune.models.group_norm import refusing_groups_of_one, to_group_norm

SHAPE = (1, 28, 28)


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class Scaled(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Renamed(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "torchvision:shufflenet_v2_x0_5"])
def test_every_batch_norm_becomes_a_group_norm_with_the_same_parameters(name: str) -> None:
    batch, group = (build(name, num_classes=4, input_shape=SHAPE, seed=0, norm=norm) for norm in ("batch", "group"))
    old = {n: m for n, m in batch.named_modules() if isinstance(m, nn.BatchNorm2d)}
    new = {n: m for n, m in group.named_modules() if isinstance(m, nn.GroupNorm)}
    assert old.keys() == new.keys() != set()
    for layer, norm in old.items():
        assert (new[layer].num_channels, new[layer].eps) == (norm.num_features, norm.eps)
        assert new[layer].num_groups == math.gcd(32, norm.num_features)
    assert all(torch.equal(p, q) for p, q in zip(batch.parameters(), group.parameters(), strict=True))
    assert dict(group.named_buffers()) == {}
    assert not any(module._forward_pre_hooks for module in group.modules())


@pytest.mark.parametrize("name", ["resnet8", "torchvision:shufflenet_v2_x0_5"])
def test_no_example_sees_the_others_of_its_batch(name: str) -> None:
    model = build(name, num_classes=4, input_shape=SHAPE, seed=0, norm="group").train()
    x = torch.rand(5, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(model(x)[:2], model(x[:2]), atol=1e-5)


def test_a_model_without_batch_norm_is_unchanged() -> None:
    batch, group = (build("lenet5", num_classes=4, input_shape=SHAPE, seed=0, norm=n) for n in ("batch", "group"))
    assert str(batch) == str(group)
    assert all(torch.equal(p, q) for p, q in zip(batch.parameters(), group.parameters(), strict=True))


def test_opacus_makes_the_same_of_it() -> None:
    validators = pytest.importorskip("opacus.validators")
    batch, group = (build("resnet8", num_classes=4, input_shape=SHAPE, seed=0, norm=n) for n in ("batch", "group"))
    assert str(validators.ModuleValidator.fix(batch)) == str(group)
    assert validators.ModuleValidator.is_valid(group.train())


def test_affine_parameters_are_taken_over() -> None:
    norm = nn.BatchNorm2d(6, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    group = to_group_norm(nn.Sequential(norm, nn.BatchNorm2d(6, affine=False)))
    assert torch.equal(group[0].weight, norm.weight)
    assert torch.equal(group[0].bias, norm.bias)
    assert (group[0].num_groups, group[0].eps, group[1].affine) == (2, 1e-3, False)


def test_a_layer_used_in_two_places_stays_one() -> None:
    norm = nn.BatchNorm2d(4)
    model = to_group_norm(nn.Sequential(norm, nn.Sequential(norm), norm))
    assert isinstance(model[0], nn.GroupNorm)
    assert model[0] is model[1][0] is model[2]


def test_a_layer_that_activates_too_still_does() -> None:
    model, x = to_group_norm(nn.Sequential(NormAct(4))), torch.randn(2, 4, 5, 5)
    assert torch.allclose(model(x), torch.relu(nn.functional.group_norm(x, 4)), atol=1e-6)
    assert isinstance(to_group_norm(nn.Sequential(Renamed(4)))[0], nn.GroupNorm)


def test_a_layer_that_does_something_else_too_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--norm group cannot replace 1\.0, a Scaled; leave it out"):
        to_group_norm(nn.Sequential(nn.ReLU(), nn.Sequential(Scaled(4))))


def test_groups_of_one_value_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--norm group: .* 8 channels of one pixel in 8 groups, which is always 0"):
        build("mobilenetv2", num_classes=4, input_shape=SHAPE, seed=0, width_mult=0.05, norm="group")
    for layer, x in ((nn.BatchNorm1d(8), torch.rand(2, 8)), (nn.BatchNorm2d(8), torch.rand(2, 8, 1, 1))):
        model = to_group_norm(nn.Sequential(layer))
        with refusing_groups_of_one(model), pytest.raises(UsageError, match="0 would normalise 8 channels"):
            model(x)
        assert model(x).abs().max() < 1e-3
    model = to_group_norm(nn.Sequential(nn.BatchNorm1d(24)))
    with refusing_groups_of_one(model):
        assert model(torch.rand(2, 24)).abs().max() > 0.1
