"""Which weights are prunable, zeros counted as numpy counts them, and masks that hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.pruning import space
from torch import nn

from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.pruning.masks import FrozenMask, apply_masks, count_zeros, prunable
from mobileprune.schemas import problems


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("keep_dense", "names"),
    [("none", "034"), ("first", "34"), ("last", "03"), ("first-last", "3")],
)
def test_only_convolution_and_linear_weights_are_prunable_less_those_kept_dense(keep_dense: str, names: str) -> None:
    model = network()
    assert list(prunable(model, keep_dense)) == [f"{name}.weight" for name in names]
    assert prunable(model, keep_dense)["3.weight"] is model[3].weight


@pytest.mark.parametrize(
    ("model", "keep_dense"), [(nn.Linear(2, 2), "first"), (nn.Sequential(nn.BatchNorm2d(2)), "none")]
)
def test_nothing_to_prune_is_a_usage_error(model: nn.Module, keep_dense: str) -> None:
    with pytest.raises(UsageError, match=f"--keep-dense {keep_dense}"):
        prunable(model, keep_dense)


def test_a_bare_layer_is_prunable() -> None:
    assert list(prunable(nn.Linear(2, 2))) == ["weight"]


def test_a_weight_shared_by_two_layers_is_pruned_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    masks = space(model, sparsity=0.5).project(prunable(model))
    apply_masks(model, masks)
    assert count_zeros(model, list(masks))["prunable_zeros"] == 8


def test_a_weight_that_is_computed_from_others_is_refused() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)))
    with pytest.raises(MobilepruneError):
        prunable(model)


def test_zeros_are_counted_as_numpy_counts_them() -> None:
    model = network()
    names = list(prunable(model))
    masks = space(model, sparsity=0.7).project(prunable(model))
    apply_masks(model, masks)
    counted = count_zeros(model, names)
    arrays = {name: p.detach().numpy() for name, p in model.named_parameters()}
    assert counted["layers"] == {
        name: {"shape": list(a.shape), "total": a.size, "zeros": int(np.count_nonzero(a == 0))}
        for name, a in arrays.items()
        if name in names
    }
    assert counted["prunable_zeros"] == sum(int((arrays[name] == 0).sum()) for name in names)
    assert counted["prunable_total"] - counted["prunable_zeros"] == sum(int(m.sum()) for m in masks.values())
    rows = [row for name in names for row in arrays[name].reshape(len(arrays[name]), -1)]
    assert (counted["zero_channels"], counted["channels"]) == (sum(not row.any() for row in rows), len(rows))
    assert counted["all_total"] == sum(a.size for a in arrays.values())
    assert counted["all_zeros"] == sum(int((a == 0).sum()) for a in arrays.values()) > counted["prunable_zeros"]
    assert problems(counted, "sparsity") == []


def test_a_frozen_mask_holds_against_an_optimiser_with_momentum() -> None:
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    masks = space(model, sparsity=0.5, budget="global").project(prunable(model))
    for _ in range(3):
        model(torch.randn(4, 1, 4, 4)).square().sum().backward()
        optimizer.step()
        FrozenMask(masks).after_step(model)
    for name, weight in model.named_parameters():
        mask = masks.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert not weight[~mask].any(), name
        assert not torch.equal(weight[mask], before[name][mask]), name
