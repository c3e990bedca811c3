"""Pattern "channel": a masked channel is a removed one, on every way in which channels can be coupled."""

from __future__ import annotations

import copy
import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.pruning import CLASSES, SHAPE, space, task
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.errors import UsageError
from mobileprune.models import build
from mobileprune.pruning import METHODS, Space, SpaceOptions, prune
from mobileprune.pruning.channels import Channels, last_layer
from mobileprune.pruning.masks import Masks, apply_masks, prunable
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


@every
def test_masked_is_removed(name: str) -> None:
    model, x = tiny(name)
    found = channels(model, x)
    check(model, x, found)
    assert set(found.left_dense.values()) <= {
        "its output channels are the classes",
        "its channels can only go all at once",  # what a depthwise layer with a multiplier is given
    }
    assert sum(not mask.all() for mask in masks_of(found, choice(found)).values()) > len(found.sites)


def test_only_hidden_units_of_a_transformer_go() -> None:
    torch.manual_seed(0)
    model, x = made(transformer())
    found = channels(model, x)
    assert [s.name for s in found.sites] == [f"encoder.layers.encoder_layer_{i}.mlp.0.weight" for i in (0, 1)]
    check(model, x, found)
    assert set(found.left_dense) | {s.name for s in found.sites} == set(prunable(model))
    assert sorted(set(found.left_dense.values())) == [
        "attention couples its heads",
        "its output channels are the classes",
        "layer normalisation runs over its output channels",
    ]


def test_groups_are_what_is_coupled() -> None:
    model, x = tiny("residual")
    found = channels(model, x)
    assert [(s.name, s.units) for s in found.sites] == [("stem.0.weight", 8), ("wider.0.weight", 12)]
    assert set(found.sites[0].masks(torch.arange(8) > 0)) == {
        *("stem.0.weight", "stem.1.weight", "stem.1.bias", "same.0.weight", "same.1.weight", "same.1.bias"),
        *("wider.0.weight", "shortcut.weight"),
    }
    assert set(found.sites[1].parameters) == {"wider.0.weight", "shortcut.weight", "head.weight"}
    assert found.left_dense == {"head.weight": "its output channels are the classes"}


def test_a_unit_of_grouped_convolutions_is_one_channel_of_each_group() -> None:
    model, x = tiny("grouped")
    units = {s.name: s.units for s in channels(model, x).sites}
    assert units == {"stem.0.weight": 8, "reduce.0.weight": 8, "two.0.weight": 4, "four.0.weight": 4}
    model, x = tiny("multiplied")
    found = channels(model, x)
    assert {s.name: s.units for s in found.sites} == {"depth.0.weight": 3}
    assert found.left_dense["stem.0.weight"] == "its channels can only go all at once"


@every
def test_scores_are_the_root_mean_square_over_all_that_goes(name: str) -> None:
    model, x = tiny(name)
    for site in channels(model, x).sites:
        assert isinstance(site, Channels)
        values = {key: model.get_parameter(key).detach() for key in site.parameters}
        squares: list[list[float]] = [[] for _ in range(site.units)]
        for part in (s for s in site.slices if s.scored):
            for index, unit in zip(part.index.tolist(), part.unit.tolist(), strict=True):
                squares[unit] += values[part.parameter].select(part.dim, index).flatten().square().tolist()
        slow = [math.sqrt(math.fsum(unit) / len(unit)) for unit in squares]
        torch.testing.assert_close(site.scores(values), torch.tensor(slow), rtol=1e-5, atol=0)


@every
def test_a_mask_is_the_common_part_of_its_units(name: str) -> None:
    """A parameter of two sites, one along dim 0 and one along dim 1, keeps what both keep."""
    model, x = tiny(name)
    found = channels(model, x)
    masks = masks_of(found, choice(found))
    slow = {name: torch.ones(mask.shape, dtype=torch.bool) for name, mask in masks.items()}
    for site in found.sites:
        for unit in (~choice(found)[site.name]).nonzero().flatten().tolist():
            for key, mask in site.masks(torch.arange(site.units) != unit).items():
                slow[key] &= mask
    assert masks.keys() == slow.keys()
    assert all(torch.equal(masks[key], slow[key]) for key in masks)


@pytest.mark.parametrize("budget", ["uniform", "global", "erk"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5])
def test_the_share_of_channels_is_exact(budget: str, ratio: float) -> None:
    model, x = tiny("residual")
    found = channels(model, x, budget=budget, channel_ratio=ratio)
    masks = found.project(prunable(model))
    kept = sum(int(masks[name].flatten(1).any(1).sum()) for name in ("stem.0.weight", "wider.0.weight"))
    assert kept == 20 - round(ratio * 20)
    assert torch.equal(masks["same.1.bias"], masks["stem.1.weight"])
    assert torch.equal(masks["shortcut.bias"], masks["wider.1.bias"])


def test_magnitude_drops_the_units_with_the_lowest_scores() -> None:
    model, x = tiny("depthwise")
    found = channels(model, x)
    masks = found.project(prunable(model))
    for site in found.sites:
        scores = site.scores({name: w.detach() for name, w in prunable(model).items()})
        kept = masks[site.name].flatten(1).any(1)
        assert scores[kept].min() >= scores[~kept].max()
        assert int(kept.sum()) == site.units // 2


def test_sparsity_is_reached_with_the_fewest_channels() -> None:
    model, x = tiny("residual")
    found = channels(model, x, channel_ratio=None, sparsity=0.7)
    weights = prunable(model)

    def sparsity(ratio: float) -> float:
        masks = found.project(weights, ratio)
        return sum(int((~masks[n]).sum()) for n in found.layers) / sum(weights[n].numel() for n in found.layers)

    assert sparsity(found.ratio) >= 0.7 > sparsity(found.ratio - 1 / 256)


@pytest.mark.parametrize("round_to", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["residual", "grouped", "depthwise", "dense"])
def test_kept_channels_come_in_multiples(name: str, round_to: int) -> None:
    model, x = tiny(name)
    found = channels(model, x, channel_ratio=0.4, round_to=round_to)
    masks = found.project(prunable(model))
    for site in found.sites:
        kept = int(masks[site.name].flatten(1).any(1).sum())
        assert kept % round_to == 0 or kept == site.shape[0]
        assert kept >= min(round_to, site.shape[0])


def test_rounding_counts_channels_not_units() -> None:
    model, x = tiny("grouped")
    steps = {s.name: s.multiple for s in channels(model, x, round_to=8).sites}
    assert steps == {"stem.0.weight": 8, "reduce.0.weight": 4, "two.0.weight": 2, "four.0.weight": 2}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_keep_coupled_channels_together(method: str) -> None:
    model, _ = tiny("residual")
    one = task(model, pattern="channel", channel_ratio=0.5, round_to=4)
    masks = prune(one, METHODS[method])
    for site in one.space.sites:
        kept = masks[site.name].flatten(1).any(1)
        assert int(kept.sum()) == {8: 4, 12: 8}[site.units], "6 of 12 is rounded to 8"
        for name, mask in site.masks(kept).items():
            assert not masks[name][~mask].any()
            assert not model.get_parameter(name)[~mask].any(), "exactly 0 after retraining"


def test_what_is_coupled_with_a_dense_layer_stays() -> None:
    model, x = tiny("residual")
    found = channels(model, x, keep_dense="first")
    assert [s.name for s in found.sites] == ["wider.0.weight"]
    reason = "its output channels are coupled with those of stem.0.weight, which stays dense"
    assert found.left_dense["same.0.weight"] == reason


def test_the_model_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    model, x = tiny("residual")
    model.train()
    model.get_parameter("head.weight").requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    channels(model, x)
    last_layer(model, x)
    assert model.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert capfd.readouterr() == ("", "")


def between(operation: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> tuple[nn.Module, Tensor]:
    """A net in which only ``operation`` stands between stem and last, which takes 8 channels as stem gives them."""

    def flow(net: Any, x: Tensor) -> Tensor:
        return pooled(net, net.last(operation(net, net.stem(x))))

    torch.manual_seed(0)
    return made(Net(flow, stem=conv(1, 8), last=bn(8, 6), head=nn.Linear(6, 3), **layers))


def over_channels(net: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(x.movedim(1, -1), [8]).movedim(-1, 1)


def shuffled(net: Any, x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def response(net: Any, x: Tensor) -> Tensor:
    """As in ConvNeXt V2: the share of the mean over channels, written out."""
    strength = x.square().mean((2, 3), keepdim=True)
    return x * (strength / (strength.mean(1, keepdim=True) + 1e-3))


def split(net: Any, x: Tensor) -> Tensor:
    first, second = x.split([2, 6], 1)
    return torch.cat([first, second.relu()], 1)


CHANGES = "removing its output channels is not the same as masking them"
COUNTS = "the model's own code counts on its output channels"
STAY: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, nn.Module], str]] = {
    "layer norm": (
        lambda net, x: net.norm(x),
        {"norm": nn.LayerNorm([8, 4, 4])},
        "layer normalisation runs over its output channels",
    ),
    "group norm": (
        lambda net, x: net.norm(x),
        {"norm": nn.GroupNorm(2, 8)},
        "group normalisation runs over its output channels",
    ),
    "layer norm as a function": (over_channels, {}, "layer normalisation runs over its output channels"),
    "softmax": (lambda net, x: x.softmax(1), {}, "softmax runs over its output channels"),
    "norm without scale": (
        lambda net, x: net.norm(x),
        {"norm": nn.BatchNorm2d(8, affine=False)},
        "normalisation without a scale moves its masked channels away from 0",
    ),
    "mean over channels": (response, {}, CHANGES),
    "shuffle": (shuffled, {}, CHANGES),
    "sum of halves": (
        lambda net, x: net.after(x[:, :4] + x[:, 4:]),
        {"after": conv(4, 8)},
        "the analysis ties its output channels to each other",
    ),
    "halves in turn": (
        lambda net, x: x * torch.cat(x.chunk(2, 1)[::-1], 1),
        {},
        "the analysis of its output channels does not end",
    ),
    "fixed split": (split, {}, COUNTS),
    "fixed view": (lambda net, x: x.view(len(x), 8, 16).view(len(x), 8, 4, 4), {}, COUNTS),
    "transposed convolution": (
        lambda net, x: net.up(x),
        {"up": nn.ConvTranspose2d(8, 8, 1)},
        "ConvTranspose2d takes part in it",
    ),
}


@pytest.mark.parametrize("name", STAY)
def test_channels_that_cannot_be_taken_out_stay_with_a_reason(name: str) -> None:
    operation, layers, reason = STAY[name]
    model, x = between(operation, **layers)
    found = channels(model, x)
    assert {s.name for s in found.sites} == {"last.0.weight", "after.weight"} & set(prunable(model))
    assert found.left_dense == {"stem.weight": reason, "head.weight": "its output channels are the classes"}
    check(model, x, found)


def test_a_model_without_removable_channels_is_refused_with_the_reasons() -> None:
    model = nn.Sequential(conv(1, 8), nn.LayerNorm([8, 4, 4]), nn.Flatten(), nn.Linear(128, 3))
    message = (
        r"--pattern channel: Sequential has no channels that could be removed: layer normalisation runs over its "
        r"output channels \(1 layers\), its output channels are the classes \(1 layers\); use --pattern filter"
    )
    with pytest.raises(UsageError, match=message):
        space(model, pattern="channel")


def test_a_model_beyond_the_analysis_is_refused_with_its_error() -> None:
    def flow(net: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise ValueError("only for inference")
        return pooled(net, net.stem(x))

    model = Net(flow, stem=bn(1, 8), head=nn.Linear(8, 3))
    message = r"--pattern channel: Net is beyond torch-pruning \(ValueError: only for inference\); use --pattern filter"
    with pytest.raises(UsageError, match=message):
        space(model, pattern="channel")


@pytest.mark.parametrize("layers", [{}, {"first": conv(1, 4)}])
def test_the_last_layer_is_the_one_called_last(layers: dict[str, nn.Module]) -> None:
    defined_first = nn.Linear(8, 3)
    model = Net(lambda net, x: pooled(net, net.stem(x)), head=defined_first, **layers, stem=bn(1, 8))
    assert last_layer(model, torch.zeros(2, *SHAPE)) == "head.weight"
    with pytest.raises(UsageError, match="calls no convolution or linear layer as a module"):
        last_layer(Net(lambda net, x: x, **layers), torch.zeros(2, *SHAPE))


@pytest.mark.long
@pytest.mark.parametrize("side", [64])
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "maxvit_t", "mnasnet0_5"),
        *("mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d"),
        *("squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_16"),
    ],
)
def test_masked_is_removed_in_torchvision(name: str, side: int) -> None:
    side = 224 if name == "maxvit_t" else side
    shape = (3, side, side)
    model, x = made(build(f"torchvision:{name}", num_classes=10, input_shape=shape, seed=0), shape)
    check(model, x, channels(model, x))
