"""Pattern "channel": a masked channel is a removed one, on every way in which channels can be coupled."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from support.channels import channels, check, choice, every, made, masks_of, tiny, transformer
from support.pruning import task
from torch import nn

from mobileprune.models import build
from mobileprune.pruning import METHODS, prune
from mobileprune.pruning.channels import TOLERANCE, Channels, agree, last_layer
from mobileprune.pruning.masks import prunable
from mobileprune.training import Recipe


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
    model, x = tiny("depthwise")
    assert {s.name: s.units for s in channels(model, x).sites} == {"stem.0.weight": 8, "expand.0.weight": 24}
    model, x = tiny("uneven")
    assert {s.name: s.units for s in channels(model, x).sites} == {"stem.0.weight": 4, "two.0.weight": 6}
    model, x = tiny("narrow")
    found = channels(model, x)
    assert {s.name: s.units for s in found.sites} == {"stem.0.weight": 8, "two.weight": 2, "wide.0.weight": 6}
    assert found.left_dense["one.weight"] == "its channels can only go all at once"
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
        masks = channels(model, x, channel_ratio=ratio).project(weights)
        return sum(int((~masks[n]).sum()) for n in found.layers) / sum(weights[n].numel() for n in found.layers)

    assert sparsity(found.ratio) >= 0.7 > sparsity(found.ratio - 1 / 256)
    for wanted in (0.0, 0.05, 0.2, 0.45, 0.6):
        fewest = next(k for k in range(256) if sparsity(k / 256) >= wanted)
        assert channels(model, x, channel_ratio=None, sparsity=wanted).ratio == fewest / 256


@pytest.mark.parametrize("pattern", ["channel", "filter"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_reaches_the_sparsity_with_a_global_budget(method: str, pattern: str) -> None:
    """Channels cost very different numbers of weights, and a method's own scores decide which ones go."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 24, 3, padding=1), nn.ReLU())
    model.extend([nn.Flatten(), nn.Linear(384, 8), nn.ReLU(), nn.Linear(8, 3)])
    with torch.no_grad():
        model.get_parameter("5.weight").mul_(0.01)  # by their size, units of 387 weights would go first
    short = {"search": Recipe(2, decay=False), "retrain": Recipe(0)}
    one = task(model, pattern=pattern, budget="global", sparsity=0.6, **short)
    masks, total = prune(one, METHODS[method]), sum(one.space.layers.values())
    zeros = sum(int((~masks[name]).sum()) for name in one.space.layers if name in masks)
    assert 0.6 * total <= zeros < 0.6 * total + 387


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
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    channels(model, x)
    last_layer(model, x)
    assert torch.equal(torch.get_rng_state(), drawn), "nothing is drawn that others would draw"
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_outputs_agree_to_the_tolerance_of_the_largest(scale: float) -> None:
    expected = scale * torch.tensor([1.0, -4.0, 0.0, 0.5], dtype=torch.float64)
    for place in range(4):
        off = torch.zeros(4, dtype=torch.float64)
        off[place] = 4 * scale * TOLERANCE
        assert agree(expected + 0.99 * off, expected)
        assert not agree(expected + 1.01 * off, expected)
    nothing = torch.tensor([torch.nan, 1.0])
    assert agree(nothing, nothing)
    assert not agree(torch.ones(2), nothing)


@pytest.mark.long
@pytest.mark.parametrize("side", [64])
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "maxvit_t", "mnasnet0_5"),
        *("mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d"),
        *("squeezenet1_1", "swin_t", "vit_b_16"),
    ],
)
def test_masked_is_removed_in_torchvision(name: str, side: int) -> None:
    side = 224 if name == "maxvit_t" else side
    shape = (3, side, side)
    model, x = made(build(f"torchvision:{name}", num_classes=10, input_shape=shape, seed=0), shape)
    check(model, x, channels(model, x))
