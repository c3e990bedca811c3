"""The networks of MODELS: the literature's sizes and shapes, and torchvision's own where they are torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mobileprune.models import MODELS, build
from mobileprune.models.resnet import Block
from mobileprune.models.vgg16_bn import vgg16_bn
from mobileprune.torchvision_import import torchvision

Shape = tuple[int, int, int]
CIFAR: Shape = (3, 32, 32)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def outputs_of(model: nn.Module, layer: str, x: torch.Tensor) -> torch.Size:
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, given, output: seen.append(output.shape))
    model(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_every_network_takes_small_images(name: str, shape: Shape) -> None:
    model = build(name, num_classes=4, input_shape=shape, seed=0)
    with torch.no_grad():
        assert model.train()(torch.rand(3, *shape)).shape == (3, 4)


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "mobilenetv2"])
@pytest.mark.parametrize("shape", [(2, 33, 46), (5, 1, 3)], ids=str)
def test_these_take_images_of_any_size(name: str, shape: Shape) -> None:
    assert build(name, num_classes=4, input_shape=shape, seed=0)(torch.rand(3, *shape)).shape == (3, 4)


@pytest.mark.parametrize(("name", "n", "total"), [("resnet8", 1, 78_042), ("resnet20", 3, 272_474)])
def test_resnets_for_small_images_have_the_papers_layers(name: str, n: int, total: int) -> None:
    """Table 6 of arXiv 1512.03385 gives 0.27 M for 20 layers."""
    model = build(name, num_classes=10, input_shape=CIFAR, seed=0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len([c for c in convolutions if c.kernel_size == (3, 3)]) + 1 == 6 * n + 2
    assert [(c.in_channels, c.out_channels, c.stride) for c in convolutions if c.kernel_size == (1, 1)] == [
        (16, 32, (2, 2)),
        (32, 64, (2, 2)),
    ]
    stages = sum((2 * n - (w > 16)) * 9 * w * w + (w > 16) * (9 + 1) * w * w // 2 for w in (16, 32, 64))
    norms = 2 * (16 + 2 * n * (16 + 32 + 64) + 32 + 64)
    assert parameters(model) == 27 * 16 + stages + norms + 64 * 10 + 10 == total
    x = torch.zeros(1, *CIFAR)
    assert [outputs_of(model, f"layer{i}", x)[1:] for i in (1, 2, 3)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize(("channels", "width", "stride"), [(16, 16, 1), (16, 32, 2), (16, 16, 2), (16, 32, 1)])
def test_a_block_is_the_papers_equation(channels: int, width: int, stride: int) -> None:
    torch.manual_seed(0)
    block, x = Block(channels, width, stride).eval(), torch.randn(2, channels, 9, 9)
    before = x.clone()

    def convolved(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
        """A fresh batch norm in eval mode divides by sqrt(1 + eps)."""
        return functional.conv2d(x, conv.weight, None, conv.stride, conv.padding) / (1 + 1e-5) ** 0.5

    shortcut = x if (channels, 1) == (width, stride) else convolved(x, block.shortcut[0])
    expected = torch.relu(convolved(torch.relu(convolved(x, block.conv1)), block.conv2) + shortcut)
    assert torch.allclose(block(x), expected, atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
def test_nothing_in_our_resnets_is_in_place_or_called_twice(name: str) -> None:
    model = build(name, num_classes=10, input_shape=CIFAR, seed=0)
    calls: dict[nn.Module, int] = {}
    for module in model.modules():
        assert not getattr(module, "inplace", False)
        module.register_forward_hook(lambda m, given, output: calls.update({m: calls.get(m, 0) + 1}))
    model(torch.zeros(1, *CIFAR))
    assert set(calls.values()) == {1}


def test_resnet18_is_torchvisions_with_a_stem_for_small_images() -> None:
    theirs = shapes(torchvision("models").resnet18(num_classes=10))
    assert shapes(build("resnet18", num_classes=10, input_shape=(3, 64, 64), seed=0)) == theirs
    model = build("resnet18", num_classes=10, input_shape=CIFAR, seed=0)
    assert shapes(model) == theirs | {"conv1.weight": (64, 3, 3, 3)}
    assert outputs_of(model, "layer1", torch.zeros(1, *CIFAR))[1:] == (64, 32, 32)
    assert outputs_of(model, "layer4", torch.zeros(1, *CIFAR))[1:] == (512, 4, 4)
    assert model.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_vgg16_bn_has_torchvisions_features_and_from_64_pixels_all_of_it() -> None:
    with torch.device("meta"):
        theirs = torchvision("models").vgg16_bn(num_classes=10)
        large = vgg16_bn(10, (3, 64, 64))
    assert shapes(large) == shapes(theirs)
    small = vgg16_bn(10, CIFAR)
    assert shapes(small.features) == shapes(theirs.features)
    assert str(small.features) == str(theirs.features)
    assert parameters(small) == 14_728_266


def test_vgg16_bn_pads_images_below_32_pixels() -> None:
    small, padded = (build("vgg16_bn", num_classes=4, input_shape=(1, *s), seed=0) for s in ((28, 31), (32, 33)))
    x = torch.rand(2, 1, 28, 31)
    with torch.no_grad():
        assert torch.allclose(small(x), padded(functional.pad(x, (1, 1, 2, 2))), atol=1e-6)


@pytest.mark.parametrize("width_mult", [1.0, 0.25])
def test_mobilenetv2_is_torchvisions(width_mult: float) -> None:
    model = build("mobilenetv2", num_classes=10, input_shape=CIFAR, seed=0, width_mult=width_mult)
    assert shapes(model) == shapes(torchvision("models").mobilenet_v2(num_classes=10, width_mult=width_mult))
