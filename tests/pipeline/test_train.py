"""Training as a step: what a record may say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

import mobileprune
from mobileprune.config import Config
from mobileprune.convert.fold_bn import reestimate
from mobileprune.errors import UsageError
from mobileprune.models.checkpoint import read_weights
from mobileprune.models.folder import WEIGHTS
from mobileprune.pipeline.inputs import examples, network, splits_of, statistics_of
from mobileprune.resume import Checkpoint, restore, save
from mobileprune.training import Recipe, fit, predict


def test_a_defence_of_weights_that_are_not_trained_is_refused(store: Path, tmp_path: Path) -> None:
    """It would be recorded, and never have happened."""
    ctx = mobileprune.context(store)
    weights = mobileprune.train(tmp_path / "a", ctx=ctx, members=60, epochs=1).restore().state_dict()
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    options = {"members": 60, "checkpoint": str(tmp_path / "w.safetensors")}
    with pytest.raises(UsageError, match="--train-defense has no effect on weights that come from --checkpoint"):
        mobileprune.train(tmp_path / "b", ctx=ctx, train_defense="minmax:1", **options)
    assert mobileprune.train(tmp_path / "b", ctx=ctx, **options).info.differential_privacy is None


@pytest.mark.parametrize(("redraw", "own_seed"), [(None, 5), (2, None)])
def test_only_a_redraw_starts_from_a_seed_of_its_own(
    store: Path, tmp_path: Path, redraw: int | None, own_seed: int | None
) -> None:
    """Held against the training loop, called by hand."""
    options = {"members": 60, "epochs": 1, "seed": 5, "redraw": redraw}
    found = mobileprune.train(tmp_path / "m", ctx=mobileprune.context(store), **options).restore().state_dict()

    def by_hand(config: Config, seed: int) -> dict[str, torch.Tensor]:
        splits = splits_of(config)
        model, t = network(config.train, splits, seed), config.train
        members = examples(splits, splits.members, *statistics_of(t, splits))
        fit(model, members, Recipe(t.epochs, t.lr, t.batch_size, augment=t.augment), seed=seed)
        return dict(model.state_dict())

    def same(other: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(tensor, other[name]) for name, tensor in found.items())

    config = mobileprune.configure(**options)
    assert same(by_hand(config, config.training_seed))
    assert same(by_hand(config, 5)) == (own_seed == 5)


@pytest.mark.parametrize("defense", ["none", "early-stopping:9", "crossfit:2"])
def test_statistics_that_move_slowly_are_those_of_the_members(store: Path, tmp_path: Path, defense: str) -> None:
    """Held against the training loop by hand, after which the network answers with the statistics of its beginning."""
    options = {"members": 200, "canaries": 0, "epochs": 6, "lr": 0.02, "model": "support.slow_norm:build"}
    folder = mobileprune.train(tmp_path / "m", ctx=mobileprune.context(store), train_defense=defense, **options)
    found, config = folder.restore(), mobileprune.configure(**options)
    splits = splits_of(config)
    members = examples(splits, splits.members, folder.info.mean, folder.info.std)
    t, seed = config.train, config.training_seed

    def accuracy(model: torch.nn.Module) -> float:
        return float((predict(model, members).argmax(1) == members.y).double().mean())

    assert accuracy(found) > 0.65
    if defense == "none":
        by_hand = fit(network(t, splits, seed), members, Recipe(t.epochs, t.lr, t.batch_size), seed=seed)
        assert accuracy(by_hand) < 0.3
        expected, got = reestimate(by_hand, members).state_dict(), found.state_dict()
        assert all(torch.equal(tensor, got[name]) for name, tensor in expected.items())


def test_a_layer_that_asks_for_its_version_comes_back(store: Path, tmp_path: Path) -> None:
    """torchvision's MNASNet takes no weights without one: after training, an early stop, a kill, and pruning."""
    options = {"members": 40, "epochs": 2, "model": "torchvision:mnasnet0_5"}
    channels = {"pattern": "channel", "retrain_epochs": 0}
    ctx = mobileprune.context(store)
    dense = mobileprune.train(tmp_path / "m", ctx=ctx, train_defense="early-stopping", **options)
    weights = dense.restore().state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read_weights(dense.path / WEIGHTS).items())
    pruned = mobileprune.prune(tmp_path / "p", dense.path, ctx=ctx, method="magnitude", **channels)
    assert pruned.restore()(torch.zeros(2, *dense.info.input_shape)).shape == (2, dense.info.num_classes)
    again, place = dense.original(), Checkpoint(tmp_path / "c.safetensors")
    optimizer = torch.optim.Adam(again.parameters())
    save(place, dense.restore(), optimizer, [], 1)
    assert restore(place, again, optimizer, []) == 1
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())
