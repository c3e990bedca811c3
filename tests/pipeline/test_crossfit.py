"""Cross-fitted labels: each from a network that has not seen the image, and not its label either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mobileprune
from mobileprune.data import Images
from mobileprune.data.splits import Splits, split
from mobileprune.pipeline.crossfit import crossfitted
from mobileprune.pipeline.inputs import examples
from mobileprune.runs import RunStore
from mobileprune.seeding import torch_rng
from mobileprune.training import Examples

FOLDS, MEAN, STD = 3, [0.5], [0.3]


def data() -> Splits:
    """Noise with a weak signal, so that a network overfits and is stopped early."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    pixels = rng.integers(0, 200, (120, 1, 12, 12)) + 20 * labels[:, None, None, None]
    return split(Images("set", pixels.astype(np.uint8), labels, ("a", "b", "c")), seed=0, members=50, canaries=0)


def labels_of(splits: Splits, runs: Path, epochs: int = 6) -> Examples:
    config = mobileprune.configure(epochs=epochs, lr=0.01, batch_size=16)
    ctx = replace(mobileprune.context(runs), store=RunStore(runs))
    return crossfitted(config, splits, MEAN, STD, FOLDS, ctx)


def fold(splits: Splits, k: int) -> torch.Tensor:
    return torch.randperm(len(splits.members), generator=torch_rng(0, "folds")).tensor_split(FOLDS)[k]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return labels_of(data(), tmp_path_factory.mktemp("runs")).y


def test_every_member_has_probabilities_for_a_label(made: torch.Tensor, tmp_path: Path) -> None:
    splits = data()
    found, members = labels_of(splits, tmp_path), examples(splits, splits.members, MEAN, STD)
    assert torch.equal(found.y, made), "the same in another run store"
    assert torch.equal(*(torch.cat([*each.split(7)]) for each in (found, members)))
    assert (found.y.shape, found.y.dtype) == ((50, 3), torch.float32)
    torch.testing.assert_close(found.y.sum(1), torch.ones(50))


def test_images_of_a_fold_have_no_part_in_each_others_labels(made: torch.Tensor, tmp_path: Path) -> None:
    """But in where training stops, which is looked up on them; a run of one epoch has no choice."""
    splits, first = data(), fold(data(), 0)
    pixels = splits.images.pixels.copy()
    pixels[splits.members[first[0]]] ^= 255
    changed = replace(splits, images=replace(splits.images, pixels=pixels))
    plain, other = (labels_of(s, tmp_path / str(i), 1).y for i, s in enumerate((splits, changed)))
    assert torch.equal(plain[first[1:]], other[first[1:]])
    assert not torch.equal(plain[first[0]], other[first[0]])
    assert not torch.equal(plain[fold(splits, 1)], other[fold(splits, 1)]), "the others do learn from it"
