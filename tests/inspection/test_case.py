"""What pruning is going to leave is what it leaves; and what is in files is held against what they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobileprune.inspection.case import found, layers_of, planned
from mobileprune.inspection.contents import Contents, Layer
from mobileprune.models import build
from mobileprune.pruning import SpaceOptions

SHAPE = (1, 28, 28)
X = torch.zeros(2, *SHAPE)
LENET5 = {  # weights x positions
    "features.0.weight": 150 * 28 * 28,
    "features.3.weight": 2400 * 10 * 10,
}


@pytest.fixture(scope="module")
def lenet5() -> nn.Module:
    return build("lenet5", num_classes=10, input_shape=SHAPE, seed=0)


def test_unstructured_zeros_are_met_exactly_and_cost_as_much(lenet5) -> None:
    before = layers_of(lenet5, X)
    network = planned(lenet5, SpaceOptions(sparsity=0.9), X)
    assert (network.weights, network.removed, network.counted) == (61_470, 0, False)
    assert network.zeros == round(0.9 * 61_470)
    assert network.macs == network.dense_macs == before.macs == 150 * 784 + 2400 * 100 + 48_000 + 10_080 + 840
    assert network.zero_macs == sum(x.zeros * ((x.macs or 0) // x.total) for x in network.layers)
    assert all(x.zeros == 0 for x in before.layers), "the model that is planned with stays as it is"


def test_channels_are_taken_out_of_the_count() -> None:
    model = build("resnet8", num_classes=10, input_shape=(3, 16, 16), seed=0)
    network = planned(model, SpaceOptions(pattern="channel", channel_ratio=0.5, round_to=8), torch.zeros(2, 3, 16, 16))
    assert [x.shape[0] for x in network.layers] == [8, 8, 8, 16, 16, 16, 32, 32, 32, 10]
    assert network.zeros == 0
    assert network.removed == network.dense_weights - network.weights > 0
    assert network.macs is not None
    assert network.dense_macs is not None
    assert 0.2 < network.macs / network.dense_macs < 0.35
    thirds = planned(model, SpaceOptions(pattern="filter", channel_ratio=0.5, round_to=8), torch.zeros(2, 3, 16, 16))
    assert (thirds.removed, thirds.zero_channels) == (0, 8 * 3 + 16 * 3 + 32 * 3)


def test_channels_that_a_file_lacks_are_those_that_its_record_has() -> None:
    layers = (Layer("a", (4, 3, 1, 1), 2, 0, 12 * 64), Layer("b", (10, 4), 0, 0, 40))
    sparsity = {"layers": {"a": {"total": 24, "zeros": 14}, "elsewhere": {"total": 7, "zeros": 0}}}
    network = found(Contents(layers, macs=12 * 64 + 40 + 5), sparsity, "channel")
    assert (network.weights, network.zeros, network.dense_weights, network.removed) == (52, 2, 64, 12)
    assert (network.macs, network.dense_macs) == (813, 813 + 12 * 64)
    assert found(Contents(layers), {}, None).dense_macs is None
