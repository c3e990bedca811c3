"""Pruning as a step: what it records of the space, and when differential privacy of the dense model still holds."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mobileprune
from mobileprune.convert.fold_bn import DEAD_VARIANCE
from mobileprune.errors import ConfigError, UsageError
from mobileprune.files import sha256
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.prune import check, prune
from mobileprune.pruning import METHODS

DATA = {"members": 60, "epochs": 1, "prune_epochs": 1, "retrain_epochs": 1}
PRIVACY = {"epsilon": 8.0, "delta": 1e-5, "noise_multiplier": 1.1, "max_grad_norm": 1.0}


@pytest.fixture(scope="module")
def ctx(store: Path) -> Context:
    return mobileprune.context(store)


@pytest.fixture(scope="module")
def dense(ctx: Context) -> ModelFolder:
    train = importlib.import_module("mobileprune.pipeline.train")
    return train.train(mobileprune.configure(**DATA), ctx)


@pytest.fixture
def private(dense: ModelFolder, tmp_path: Path) -> ModelFolder:
    """The dense model as if it had been trained with DP-SGD."""
    info = replace(dense.info, differential_privacy=PRIVACY)
    ModelFolder.write(tmp_path / "private", info, dense.restore().state_dict())
    return ModelFolder.load(tmp_path / "private")


def pruned(dense: ModelFolder, ctx: Context, **options: Any) -> ModelFolder:
    return prune(dense, mobileprune.configure(**DATA | options), ctx)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("retrain_epochs", [0, 1])
def test_privacy_survives_only_what_looks_at_no_member(
    private: ModelFolder, ctx: Context, method: str, retrain_epochs: int
) -> None:
    found = pruned(private, ctx, method=method, retrain_epochs=retrain_epochs).info
    keeps = method in ("magnitude", "random") and retrain_epochs == 0
    assert found.differential_privacy == (PRIVACY if keeps else None)


def test_a_model_without_privacy_does_not_get_any(dense: ModelFolder, ctx: Context) -> None:
    assert pruned(dense, ctx, method="magnitude", retrain_epochs=0).info.differential_privacy is None


def test_dpsgd_states_what_it_spent_from_training_to_the_artifact(ctx: Context, tmp_path: Path, quick_bench) -> None:
    pytest.importorskip("opacus", reason="the extra dp is not installed")
    trained = mobileprune.train(tmp_path / "dense", ctx=ctx, members=60, epochs=1, train_defense="dpsgd:8")
    spent = trained.info.differential_privacy
    assert (spent["epsilon"], spent["delta"], spent["max_grad_norm"]) == (8.0, 1e-5, 1.0)
    assert spent["noise_multiplier"] > 0.3
    options = {"ctx": ctx, "target": "torchscript-lite", "method": "magnitude"}
    for epochs, expected in ((0, spent), (1, None)):
        made = mobileprune.export(tmp_path / str(epochs), tmp_path / "dense", retrain_epochs=epochs, **options)
        assert made.artifact.manifest.lineage["differential_privacy"] == expected


@pytest.mark.parametrize(
    ("options", "zeros"),
    [
        ({"sparsity": 0.7}, round(0.7 * 61470)),
        ({"sparsity": 0.7, "budget": "erk"}, round(0.7 * 61470)),
        ({"sparsity": 0.7, "budget": "global", "pattern": "block:2x1"}, None),
        ({"sparsity": 0.5, "pattern": "2:4"}, None),
        ({"channel_ratio": 0.5, "pattern": "filter"}, None),
    ],
    ids=str,
)
def test_sparsity_is_counted_in_the_weights_of_the_layers_that_the_pattern_touches(
    dense: ModelFolder, ctx: Context, options: dict[str, Any], zeros: int | None
) -> None:
    folder = pruned(dense, ctx, method="magnitude", **options)
    counted, model = folder.info.sparsity, folder.restore()
    left = counted["left_dense"]
    for name, layer in counted["layers"].items():
        assert layer["zeros"] == int((model.get_parameter(name) == 0).sum())
    if options.get("pattern") == "2:4":
        assert left == {f"conv{i}.weight": f"{c} input channels are no multiple of 4" for i, c in ((1, 1), (2, 6))}
        assert set(counted["layers"]) == {"fc1.weight", "fc2.weight", "fc3.weight"}
        assert counted["prunable_zeros"] == counted["prunable_total"] // 2
    elif options.get("pattern") == "filter":
        assert left == {"fc3.weight": "its output channels are the classes"}
        assert len(counted["layers"]) == 5
        zero = [int((model.get_parameter(n).flatten(1) == 0).all(1).sum()) for n in counted["layers"] if n not in left]
        assert sum(zero) == (6 + 16 + 120 + 84) // 2
    else:
        assert left == {}
        assert zeros is None or counted["prunable_zeros"] == zeros


CHANNELS = {"pattern": "channel", "method": "magnitude", "round_to": 4}


def test_channels_are_taken_out_and_counted_as_zeros_of_the_original(dense: ModelFolder, ctx: Context) -> None:
    folder = pruned(dense, ctx, channel_ratio=0.5, **CHANNELS)
    counted, model = folder.info.sparsity, folder.restore()
    shapes = {name: list(w.shape) for name, w in dense.restore().named_parameters()}
    kept = {"conv1.weight": 4, "conv2.weight": 8, "fc1.weight": 60, "fc2.weight": 40, "fc3.weight": 10}
    assert {name: len(model.get_parameter(name)) for name in kept} == kept
    assert {name: shapes[name][0] - len(gone) for name, gone in folder.info.removed_channels.items()} == {
        name: count for name, count in kept.items() if name != "fc3.weight"
    }
    for name, layer in counted["layers"].items():
        assert layer["shape"] == shapes[name]
        assert layer["total"] - layer["zeros"] == int(model.get_parameter(name).count_nonzero())
    left = sum(p.numel() for p in model.parameters())
    assert (counted["all_total"], counted["all_zeros"]) == (61706, 61706 - left)
    assert (counted["channels"], counted["zero_channels"]) == (236, 236 - sum(kept.values()))
    assert folder.info.dense_weights_sha256 == dense.weights_sha256
    assert (folder.path / "weights.safetensors").stat().st_size < 0.3 * 4 * 61706


def test_sparsity_is_a_share_of_the_dense_network_though_channels_are_gone(dense: ModelFolder, ctx: Context) -> None:
    counted = pruned(dense, ctx, sparsity=0.8, **CHANNELS).info.sparsity
    assert 0.8 <= counted["prunable_zeros"] / counted["prunable_total"] < 0.85


@pytest.mark.parametrize(
    "again", [CHANNELS | {"channel_ratio": 0.5}, {"sparsity": 0.5, "method": "magnitude"}], ids=str
)
def test_what_has_lost_channels_can_be_pruned_again(
    dense: ModelFolder, ctx: Context, tmp_path: Path, again: dict[str, Any]
) -> None:
    """The options speak of what is left, the counts and the numbers of channels of the original."""
    options = {"ctx": ctx, "retrain_epochs": 0}
    once = mobileprune.prune(tmp_path / "once", dense.path, channel_ratio=0.5, **CHANNELS, **options)
    twice = mobileprune.prune(tmp_path / "twice", once.path, **again, **options)
    first, second = once.restore(), twice.restore()
    before, after, counted = once.info.removed_channels, twice.info.removed_channels, twice.info.sparsity
    assert counted["all_total"] == 61706
    assert counted["layers"].keys() == once.info.sparsity["layers"].keys()
    for name, layer in counted["layers"].items():
        assert layer["total"] - layer["zeros"] == int(second.get_parameter(name).count_nonzero())
    if "pattern" in again:
        assert {name: len(second.get_parameter(name)) for name in after} == {
            "conv1.weight": 4,
            "conv2.weight": 4,
            "fc1.weight": 32,
            "fc2.weight": 20,
        }
        whole = dense.restore().get_parameter("conv2.bias")
        kept = [c for c in range(16) if c not in after["conv2.weight"]]
        assert torch.equal(second.get_parameter("conv2.bias"), whole[kept])
        assert all(set(before[name]) < set(after[name]) for name in ("conv2.weight", "fc1.weight", "fc2.weight"))
    else:
        assert after == before
        assert counted["prunable_zeros"] / counted["prunable_total"] > 0.8
        left = sum(first.get_parameter(name).numel() for name in counted["layers"])
        assert sum(int((second.get_parameter(name) == 0).sum()) for name in counted["layers"]) == round(0.5 * left)
    assert twice.info.dense_weights_sha256 == dense.weights_sha256


def test_a_smaller_network_is_exported_and_audited_as_it_is(
    dense: ModelFolder, ctx: Context, tmp_path: Path, quick_bench: None, command: Any
) -> None:
    options = ("--runs", ctx.store.root, "--pattern", "channel", "--channel-ratio", 0.5, "--method", "magnitude")
    done = command("prune", dense.path, "-o", tmp_path / "small", "--retrain-epochs", 0, *options)
    assert done.code == 0, done.err
    small = ModelFolder.load(tmp_path / "small")
    assert f"\n{sum(map(len, small.info.removed_channels.values()))} output channels are taken out" in done.out
    made = mobileprune.export(tmp_path / "out", small.path, ctx=ctx, target="torchscript-lite")
    assert made.artifact.manifest.sparsity == small.info.sparsity
    assert set(made.audit.attack.subjects) == {"dense", "source", "artifact"}
    assert made.bench.artifact.size.size_bytes < 0.5 * made.bench.baseline.size.size_bytes


def test_a_budget_of_the_users_is_recorded_by_its_content(dense: ModelFolder, ctx: Context, tmp_path: Path) -> None:
    """And not by its path: changed content must not answer with an old result."""
    found = []
    for ratio in (0.5, 0.25, 0.5):
        (tmp_path / "b.toml").write_text(f'"fc1.*" = {ratio}\n')
        options = {"budget": str(tmp_path / "b.toml"), "method": "magnitude", "sparsity": 0.9, "retrain_epochs": 0}
        folder = pruned(dense, ctx, **options)
        assert folder.info.config["prune"]["budget"] == sha256(tmp_path / "b.toml")
        layer = folder.info.sparsity["layers"]["fc1.weight"]
        assert layer["zeros"] == round(ratio * layer["total"])
        found.append(folder.path)
    assert found[0] == found[2] != found[1]


def test_without_retraining_no_weight_that_is_kept_has_changed(dense: ModelFolder, ctx: Context) -> None:
    before = dense.restore().state_dict()
    after = pruned(dense, ctx, method="magnitude", retrain_epochs=0).restore().state_dict()
    for name, value in after.items():
        assert torch.equal(value, torch.where(value == 0, value, before[name]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magnitud"}, "did you mean 'magnitude'"),
        ({"pattern": "block:8x2"}, "--pattern 'block:8x2'"),
        ({"budget": "unifrom"}, "choose from uniform, global, erk"),
        ({"defense": "minmx"}, "did you mean 'minmax'"),
        ({"defense": "dpsgd"}, "works during training"),
        ({"defense": "ppb", "method": "magnitude", "retrain_epochs": 0}, "here is no training"),
        ({"defense": "early-stopping", "method": "admm", "retrain_epochs": 0}, "here is pruning"),
        ({"channel_ratio": 0.5}, "--channel-ratio is for --pattern channel or filter"),
        ({"pattern": "2:4", "sparsity": 0.3}, "keeps at most 50%"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_anything_is_trained(options: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, ConfigError)) as refused:
        check(mobileprune.configure(**options))
    assert words in str(refused.value)


def test_a_given_model_can_be_retrained_with_augmentation(dense: ModelFolder, ctx: Context, tmp_path: Path) -> None:
    """As it was trained, perhaps: without a word the retraining of a source is not augmented."""
    found = [
        mobileprune.prune(tmp_path / kind, dense.path, ctx=ctx, method="magnitude", retrain_epochs=1, augment=kind)
        for kind in ("none", "crop-flip")
    ]
    assert found[0].weights_sha256 != found[1].weights_sha256


def test_dead_channels_do_not_make_the_pruned_network_amplify_rounding(ctx: Context) -> None:
    """Else float32 and float64 disagree about it, and no exported file could agree with it."""
    options = {**DATA, "model": "mobilenetv2", "width_mult": 0.25, "sparsity": 0.95, "method": "magnitude"}
    config = mobileprune.configure(**options)
    train = importlib.import_module("mobileprune.pipeline.train")
    model = prune(train.train(config, ctx), config, ctx).restore()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not any(((norm.running_var < DEAD_VARIANCE) & (norm.weight != 0)).any() for norm in norms)
    assert sum(int(((norm.running_var == 1) & (norm.weight == 0)).sum()) for norm in norms) > 100
    x = torch.randn(8, 1, 28, 28)
    with torch.no_grad():
        single, double = model(x), model.double()(x.double())
    assert float((single - double).abs().max()) < 1e-4 * float(double.abs().max())
