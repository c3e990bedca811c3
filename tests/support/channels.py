"""Networks whose channels are coupled in every way, and how what pruning leaves of them is held against removal."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.pruning import CLASSES, SHAPE
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.models import build
from mobileprune.pruning import Space, SpaceOptions
from mobileprune.pruning.masks import Masks, apply_masks
from mobileprune.torchvision_import import torchvision


class Net(nn.Module):
    """Named layers and a function of them: (N, 1, 4, 4) -> logits (N, 3)."""

    def __init__(self, flow: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.flow = flow
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self, x)


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def bn(inputs: int, outputs: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU())


def pooled(net: Any, x: Tensor) -> Tensor:
    return net.head(x.mean((2, 3)))


def residual() -> Net:
    def flow(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = x + net.same(x)
        return pooled(net, torch.relu(net.wider(x) + net.shortcut(x)))

    return Net(flow, stem=bn(1, 8), same=bn(8, 8), wider=bn(8, 12), shortcut=conv(8, 12, 1), head=nn.Linear(12, 3))


def dense() -> Net:
    """As in DenseNet: batch norm runs over what several layers gave."""

    def flow(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = torch.cat([x, net.a(x)], 1)
        x = torch.cat([x, net.b(x)], 1)
        return pooled(net, torch.relu(net.norm(x)))

    layers = {"stem": conv(1, 4), "a": bn(4, 6), "b": bn(10, 4), "norm": nn.BatchNorm2d(14), "head": nn.Linear(14, 3)}
    return Net(flow, **layers)


def grouped() -> Net:
    """A bottleneck with 2 groups on the way to one with 4."""

    def flow(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        return pooled(net, x + net.out(net.four(net.two(net.reduce(x)))))

    two, four = bn(16, 16, groups=2), bn(16, 16, groups=4)
    return Net(flow, stem=bn(1, 8), reduce=bn(8, 16), two=two, four=four, out=conv(16, 8, 1), head=nn.Linear(8, 3))


def depthwise() -> Net:
    """As in MobileNet: expand, depthwise, project, and the sum."""

    def flow(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        return pooled(net, x + net.project(net.depth(net.expand(x))))

    depth = bn(24, 24, groups=24)
    return Net(flow, stem=bn(1, 8), expand=bn(8, 24), depth=depth, project=conv(24, 8, 1), head=nn.Linear(8, 3))


def multiplied() -> Net:
    """Each input channel has 3 output channels of its own: they go in threes, one of each group."""

    def flow(net: Any, x: Tensor) -> Tensor:
        return pooled(net, net.depth(net.stem(x)))

    return Net(flow, stem=bn(1, 4), depth=bn(4, 12, groups=4), head=nn.Linear(12, 3))


def flattened() -> nn.Module:
    layers = [bn(1, 4), nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 3)]
    return nn.Sequential(*layers)


def squeeze_excite() -> Net:
    """A gate that is not 0 where its input is: sigmoid(0) = 1/2."""

    def flow(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        gate = net.up(functional.relu(net.down(x.mean((2, 3), keepdim=True)))).sigmoid()
        return pooled(net, net.last(x * gate).sigmoid())

    layers = {"stem": bn(1, 8), "down": conv(8, 4, 1), "up": conv(4, 8, 1), "last": conv(8, 6), "head": nn.Linear(6, 3)}
    return Net(flow, **layers)


def scaled() -> Net:
    """A parameter of no module, one slope per channel, one slope for all, and instance norm."""

    def flow(net: Any, x: Tensor) -> Tensor:
        x = net.slope(net.instance(net.stem(x))) * net.scale
        return pooled(net, net.slopes(net.last(x)))

    net = Net(flow, stem=conv(1, 8), instance=nn.InstanceNorm2d(8, affine=True), slope=nn.PReLU(), last=conv(8, 6))
    net.slopes, net.head = nn.PReLU(6), nn.Linear(6, 3)
    net.scale = nn.Parameter(torch.rand(8, 1, 1))
    return net


def narrow() -> Net:
    """A layer with one channel, which is as many as it has groups, yet no depthwise one; slopes and depth for two."""

    def flow(net: Any, x: Tensor) -> Tensor:
        return pooled(net, net.wide(net.one(net.depth(net.slopes(net.two(net.stem(x)))))))

    layers = {"stem": bn(1, 8), "two": conv(8, 2), "slopes": nn.PReLU(2), "depth": conv(2, 2, groups=2)}
    return Net(flow, **layers, one=conv(2, 1), wide=bn(1, 6), head=nn.Linear(6, 3))


def uneven() -> Net:
    """Groups that take 4 channels each and give 6."""

    def flow(net: Any, x: Tensor) -> Tensor:
        return pooled(net, net.two(net.stem(x)))

    return Net(flow, stem=bn(1, 8), two=bn(8, 12, groups=2), head=nn.Linear(12, 3))


def normalised() -> Net:
    """Instance norm without a scale leaves what is 0 at 0."""

    def flow(net: Any, x: Tensor) -> Tensor:
        return pooled(net, net.last(net.norm(net.stem(x))))

    return Net(flow, stem=conv(1, 8), norm=nn.InstanceNorm2d(8), last=bn(8, 6), head=nn.Linear(6, 3))


def transformer() -> nn.Module:
    """torchvision's ViT: attention and all that layer norm sees stay, hidden units of the MLPs go."""
    vit = torchvision("models.vision_transformer").VisionTransformer
    options = {"image_size": 4, "patch_size": 2, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    model: nn.Module = vit(**options, num_classes=CLASSES)
    model.conv_proj = nn.Conv2d(1, 8, 2, 2)  # type: ignore[assignment]
    return model


COUPLINGS = {
    "residual": residual,
    "dense": dense,
    "grouped": grouped,
    "depthwise": depthwise,
    "multiplied": multiplied,
    "flattened": flattened,
    "squeeze-excite": squeeze_excite,
    "scaled": scaled,
    "narrow": narrow,
    "uneven": uneven,
    "normalised": normalised,
    "resnet8": lambda: build("resnet8", num_classes=CLASSES, input_shape=SHAPE, seed=0),
}
every = pytest.mark.parametrize("name", COUPLINGS)


def made(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> tuple[nn.Module, Tensor]:
    """With random statistics, scales and shifts, so that nothing is 0 or 1 by default; and two images."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, *shape, generator=rng)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 or float(parameter.detach().std()) < 1e-3 or "embedding" in name:
            parameter.data = torch.rand(parameter.shape, generator=rng) - 0.3
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    model.eval()
    for module in model.modules():
        module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, *shape, generator=rng))
    for statistics in (b for name, b in model.named_buffers() if name.endswith("running_mean")):
        statistics += torch.rand(statistics.shape, generator=rng)  # masked channels must not let it through
    return model.eval(), x


def tiny(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return made(COUPLINGS[name]())


def channels(model: nn.Module, x: Tensor, **options: Any) -> Space:
    return Space.of(model, SpaceOptions(**{"pattern": "channel", "channel_ratio": 0.5, "round_to": 1, **options}), x)


def choice(found: Space, seed: int = 0) -> dict[str, Tensor]:
    """Half of the units of each site, by chance."""
    rng = torch.Generator().manual_seed(seed)
    return {s.name: torch.randperm(s.units, generator=rng) < (s.units + 1) // 2 for s in found.sites}


def masks_of(found: Space, kept: dict[str, Tensor]) -> Masks:
    masks: Masks = {}
    for one in found.sites:
        for name, mask in one.masks(kept[one.name]).items():
            masks[name] = masks[name] & mask if name in masks else mask
    return masks


def removed(model: nn.Module, x: Tensor, found: Space, kept: dict[str, Tensor]) -> nn.Module:
    """torch-pruning takes the same channels from a copy."""
    pruning, model = importlib.import_module("torch_pruning"), copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = pruning.DependencyGraph().build_dependency(model, (x,), verbose=False)
        for one in found.sites:
            layer = model.get_submodule(one.name.rpartition(".")[0])
            gone = [c for c in range(one.shape[0]) if not kept[one.name][c % one.units]]
            graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, gone).prune()
    return model


def check(model: nn.Module, x: Tensor, found: Space) -> None:
    """Outputs and what is left of every parameter."""
    kept = choice(found)
    masks, masked = masks_of(found, kept), copy.deepcopy(model)
    apply_masks(masked, masks)
    smaller = removed(model, x, found, kept)
    with torch.no_grad():
        before, after, expected = model(x), masked(x), smaller(x)
    assert (before - after).abs().max() > 1e-3 * before.abs().max(), "pruning does something"
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    left = dict(smaller.named_parameters())
    for name, parameter in model.named_parameters():
        mask = masks.get(name, torch.ones(parameter.shape, dtype=torch.bool))
        assert torch.equal(parameter[mask], left[name].flatten()), name
