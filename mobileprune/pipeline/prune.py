"""Pruning as a step: ADMM and retraining resume where they were killed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mobileprune import defenses
from mobileprune.config import Config, PruneConfig, TrainConfig
from mobileprune.convert.fold_bn import neutralise_dead_channels, reestimate
from mobileprune.convert.shrink import compose, shrink
from mobileprune.errors import UsageError
from mobileprune.files import sha256
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.crossfit import crossfitted
from mobileprune.pipeline.inputs import examples, splits_for
from mobileprune.pruning import DATA_FREE, SEARCHING, PruneRecipe, PruneTask, Space, SpaceOptions, method
from mobileprune.pruning import prune as run
from mobileprune.pruning.budgets import SHARED, read_file
from mobileprune.pruning.masks import count_zeros
from mobileprune.pruning.patterns import sites
from mobileprune.training import Recipe

CHECKED = 16
"""Members for which the network without its pruned channels is held against the masked one."""


def check(config: Config) -> None:
    """UsageError for names and combinations that pruning would stumble over after an hour of training."""
    p = config.prune
    method(p.method)
    sites(p.pattern)
    SpaceOptions.of(p)
    if p.budget not in SHARED:
        read_file(Path(p.budget))
    stages = (["pruning"] if p.method in SEARCHING else []) + (["retraining"] if p.retrain_epochs else [])
    defenses.check(p.defense, stages, "--defense")


def prune(dense: ModelFolder, config: Config, context: Context) -> ModelFolder:
    """Prune ``dense`` with the configured method and retrain it on the members.

    With pattern channel the result lacks the channels that were pruned: a smaller network. Its sparsity is counted as
    with any other pattern, what was removed being zeros of the original network. ``dense`` may have been pruned
    before; the shares that the options name are then of what is left of it.
    """
    torch.set_num_threads(context.num_threads)
    find_masks, splits, info = method(config.prune.method), splits_for(dense, config), dense.info
    p, t = config.prune, config.train
    options = SpaceOptions.of(p)
    if info.config["train"]["checkpoint"] and "crossfit" in defenses.parse(p.defense):
        raise UsageError(
            "crossfit asks models that were trained without an image; these weights come from a checkpoint that may "
            "have seen all, and a network of this kind cannot be trained anew from it: use early-stopping or distill"
        )
    dense_way = replace(config, train=TrainConfig(**{**info.config["train"], "checkpoint": None}))
    recorded = pruning_lineage(p)

    def compute(folder: Path, partial: Path) -> None:
        model = dense.restore()
        members = examples(splits, splits.members, info.mean, info.std)
        task = PruneTask(
            model=model,
            members=members,
            reference=examples(splits, splits.reference, info.mean, info.std),
            num_classes=info.num_classes,
            space=Space.of(model, options, members.inputs(torch.arange(2))),
            recipe=PruneRecipe(
                search=Recipe(p.prune_epochs, t.lr, t.batch_size, decay=False, augment=t.augment),
                retrain=Recipe(p.retrain_epochs, t.lr, t.batch_size, augment=t.augment),
                defense=p.defense,
            ),
            seed=config.training_seed,
            progress=context.progress,
            checkpoint=context.checkpoint(partial),
            crossfitted=lambda folds: crossfitted(dense_way, splits, info.mean, info.std, folds, context),
        )
        masks = run(task, find_masks)
        reestimate(model, task.reference if "distill" in defenses.parse(p.defense) else members)
        neutralise_dead_channels(model)  # else they are rounding noise times 1/sqrt(eps), in PyTorch too
        counted = count_zeros(model, list(task.space.layers), dense.original() if info.removed_channels else None)
        some = torch.arange(min(CHECKED, len(members)))
        smaller, gone = shrink(model, task.space.sites, masks, members.inputs(some))
        pruned = replace(
            info,
            config={**info.config, "prune": recorded},
            sparsity={**counted, "left_dense": task.space.left_dense},
            differential_privacy=info.differential_privacy if _keeps_guarantee(config) else None,
            dense_weights_sha256=info.dense_weights_sha256 or dense.weights_sha256,
            removed_channels=compose(info.removed_channels, gone, model),
        )
        ModelFolder.write(folder, pruned, smaller.state_dict())

    inputs = {
        "dense": dense.weights_sha256,
        "info": asdict(info),
        "code": code_digest(info.model),
        "prune": recorded,
        "lr": t.lr,
        "batch_size": t.batch_size,
        "augment": t.augment,
        "split": splits.sha256(),
        "seed": config.training_seed,
        "num_threads": context.num_threads,
    }
    return ModelFolder.load(context.store.step("prune", inputs, compute, of=info.model).path)


def pruning_lineage(config: PruneConfig) -> dict[str, Any]:
    """What pruning depends on, without paths of this machine: a budget of the user's by its hash."""
    return asdict(config) if config.budget in SHARED else {**asdict(config), "budget": sha256(Path(config.budget))}


def _keeps_guarantee(config: Config) -> bool:
    """Post-processing that looks at no data keeps differential privacy."""
    return config.prune.method in DATA_FREE and config.prune.retrain_epochs == 0
