"""Patterns: units, scores and masks against loops over every weight in whole numbers, and what each refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pruning import PATTERNS, network, scores, site, space, units, violations
from torch import Tensor, nn

from mobileprune.errors import UsageError
from mobileprune.pruning.masks import PruneScope, prunable
from mobileprune.pruning.patterns import Filters, densest, sites
from mobileprune.pruning.space import SpaceOptions

quick = settings(max_examples=60)
dims = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def width(pattern: str) -> int:
    """What the number of input channels must be a multiple of."""
    kind, _, size = pattern.partition(":")
    return int(size) if kind.isdecimal() else 1


def array(pattern: str, rows: int, rest: list[int], seed: int) -> np.ndarray:
    """Small whole numbers, so that many tie."""
    shape = (rows, rest[0] * width(pattern), *rest[1:])
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("pattern", PATTERNS)
@quick
@given(rows=st.integers(1, 19), rest=dims, seed=st.integers(0, 99))
def test_units_and_scores_are_those_of_loops(pattern: str, rows: int, rest: list[int], seed: int) -> None:
    weights = array(pattern, rows, rest, seed)
    one, expected = site(pattern, "w", weights.shape), scores(pattern, weights)
    found = one.scores({"w": torch.tensor(weights)})
    assert (one.units, found.dtype) == (len(expected), torch.float32)
    assert one.capacity == sum(score >= 0 for score in expected)
    np.testing.assert_allclose(found.square() * found.sign(), np.array(expected, dtype=float), rtol=1e-6)
    assert found.argsort(descending=True, stable=True).tolist() == sorted(
        range(len(expected)), key=lambda unit: (-expected[unit], unit)
    )


@pytest.mark.parametrize("pattern", PATTERNS)
@quick
@given(rows=st.integers(1, 19), rest=dims, seed=st.integers(0, 99))
def test_a_mask_covers_the_weights_of_the_kept_units_and_no_others(
    pattern: str, rows: int, rest: list[int], seed: int
) -> None:
    shape = array(pattern, rows, rest, 0).shape
    one, groups = site(pattern, "w", shape), units(pattern, shape)
    kept = torch.tensor(np.random.default_rng(seed).random(one.units) < 0.5)
    masks = one.masks(kept)
    assert {name: (m.dtype, tuple(m.shape)) for name, m in masks.items()} == {"w": (torch.bool, shape)}
    expected = {i for unit, keep in zip(groups, kept.tolist(), strict=True) if keep for i in unit}
    assert set(torch.nonzero(masks["w"].flatten()).flatten().tolist()) == expected


@pytest.mark.parametrize("pattern", PATTERNS)
def test_scores_do_not_depend_on_the_memory_format(pattern: str) -> None:
    """Of whole numbers, whose sums are exact in any order."""
    weight, one = torch.tensor(array(pattern, 6, [2, 3, 3], 0)), site(pattern, "w", (6, 2 * width(pattern), 3, 3))
    last = weight.to(memory_format=torch.channels_last)
    assert torch.equal(one.scores({"w": last}), one.scores({"w": weight}))


def test_a_last_block_with_fewer_rows_counts_by_its_mean() -> None:
    """Not by its sum: a lone row of 2s is more worth keeping than a pair with 2 and 1."""
    one = site("block:2x1", "w", (3, 1))
    assert one.scores({"w": torch.tensor([[2.0], [1.0], [2.0]])}).tolist() == pytest.approx([2.5**0.5, 2.0])


def test_a_filter_goes_with_its_bias() -> None:
    kept = torch.tensor([True, False, True])
    assert Filters("w", (3, 2), "b").masks(kept)["b"].tolist() == [True, False, True]
    assert list(Filters("w", (3, 2), None).masks(kept)) == ["w"]
    found = space(network(), pattern="filter", sparsity=0.1)
    assert [(s.name, s.bias) for s in found.sites] == [("0.weight", "0.bias"), ("3.weight", None)]


def test_filters_of_the_layer_that_is_called_last_stay() -> None:
    """Whatever the order in which layers were defined."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(4, 3), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x.flatten(1)).relu())

    found = space(Net(), pattern="filter", sparsity=0.5)
    assert [one.name for one in found.sites] == ["body.weight"]
    assert found.left_dense == {"head.weight": "its output channels are the classes"}
    assert list(found.layers) == ["head.weight", "body.weight"], "sparsity is counted over all layers"


def test_n_of_m_says_why_a_layer_stays_dense_and_counts_sparsity_over_the_others() -> None:
    found = space(network(), pattern="2:4")
    assert found.left_dense == {"0.weight": "1 input channels are no multiple of 4"}
    assert tuple(found.layers) == found.parameters == ("3.weight", "8.weight")
    torch.manual_seed(0)
    odd = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1, groups=2), nn.Flatten())
    model = nn.Sequential(odd, nn.Linear(64, 3))
    assert space(model, pattern="1:4").left_dense == {
        "0.0.weight": "1 input channels are no multiple of 4",
        "0.1.weight": "3 input channels are no multiple of 4",
    }


def test_a_pattern_that_fits_no_layer_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(UsageError, match=r"--pattern 7:8 fits no layer of this model: .*12 input channels.*another"):
        space(model, pattern="7:8")


@pytest.mark.parametrize(
    ("pattern", "sparsity", "words"),
    [("2:4", 0.3, r"2:4 keeps at most 50% .* --sparsity 0\.5 or more"), ("1:4", 0.5, r"25% .* --sparsity 0\.75")],
)
def test_less_sparsity_than_the_pattern_has_is_refused(pattern: str, sparsity: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        space(network(), pattern=pattern, sparsity=sparsity)


@pytest.mark.parametrize(("pattern", "least"), [("1:2", 0.5), ("2:4", 0.5), ("1:4", 0.75)])
def test_the_least_sparsity_of_n_of_m_is_allowed_and_fills_every_group(pattern: str, least: float) -> None:
    model = network()
    masks = space(model, pattern=pattern, sparsity=least).project(prunable(model))
    assert violations(pattern, masks) == []
    assert all(int((~mask).sum()) == least * mask.numel() for mask in masks.values())


@pytest.mark.parametrize("pattern", ["7:10", "2:3", "1:7", "98:99", "1:99"])
def test_the_sparsity_that_a_refusal_names_is_taken(pattern: str) -> None:
    with pytest.raises(UsageError, match="or more") as refused:
        SpaceOptions(sparsity=0.0, pattern=pattern)
    (named,) = re.findall(r"--sparsity (\S+) or more", str(refused.value))
    assert float(named) == pytest.approx(1 - densest(pattern), abs=1e-6)
    assert SpaceOptions(sparsity=float(named), pattern=pattern)


NO_BLOCKS = ("block", "block:", "block:1x1", "block:0x1", "block:8x2", "block:8", "block:-2x1", "block:2.5x1")
NO_N_OF_M = ("4:2", "4:4", "0:4", "2:", ":4", "2:4:8", "-2:4", "two:four")


@pytest.mark.parametrize("spec", ["", "Filter", "structured", "block:8x1 ", *NO_BLOCKS, *NO_N_OF_M])
def test_a_pattern_that_there_is_not_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(UsageError) as refused:
        sites(spec)
    assert f"--pattern {spec!r}" in str(refused.value)
    assert all(words in str(refused.value) for words in ("unstructured, filter, channel", "block:8x1", "2:4"))


@pytest.mark.parametrize("spec", [*PATTERNS, "block:3x1", "block:999x1", "3:4", "15:16"])
def test_every_other_pattern_gives_sites_in_order(spec: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3))
    found, dense = sites(spec)(model, PruneScope(prunable(model), torch.zeros(2, 1, 4, 4)))
    assert [one.name for one in found] == [f"{i}.weight" for i in (1, 2, 3)[: 2 if spec == "filter" else 3]]
    assert [one.parameters for one in found] == [(one.name,) for one in found]
    assert dense.keys() == ({"3.weight"} if spec == "filter" else set())
