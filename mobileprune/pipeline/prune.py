"""Pruning as a step: ADMM and retraining resume where they were killed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from mobileprune.config import Config
from mobileprune.convert.fold_bn import reestimate
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import examples, splits_for
from mobileprune.pruning import PruneRecipe, PruneTask, method
from mobileprune.pruning import prune as run
from mobileprune.pruning.masks import count_zeros
from mobileprune.training import Recipe


def prune(dense: ModelFolder, config: Config, context: Context) -> ModelFolder:
    """Prune ``dense`` with the configured method and retrain it on the members."""
    torch.set_num_threads(context.num_threads)
    find_masks, splits, info = method(config.prune.method), splits_for(dense, config), dense.info
    p, t = config.prune, config.train

    def compute(folder: Path, partial: Path) -> None:
        model = dense.restore()
        members = examples(splits, splits.members, info.mean, info.std)
        task = PruneTask(
            model=model,
            members=members,
            reference=examples(splits, splits.reference, info.mean, info.std),
            num_classes=info.num_classes,
            recipe=PruneRecipe(
                sparsity=p.sparsity,
                scope=p.scope,
                keep_dense=p.keep_dense,
                lam=p.lam,
                admm=Recipe(p.admm_epochs, t.lr, t.batch_size, decay=False),
                retrain=Recipe(p.retrain_epochs, t.lr, t.batch_size),
            ),
            seed=config.seed,
            progress=context.progress,
            checkpoint=context.checkpoint(partial),
        )
        masks = run(task, find_masks)
        reestimate(model, members.x)
        pruned = replace(
            info,
            config={**info.config, "prune": asdict(p)},
            sparsity=count_zeros(model, list(masks)),
            dense_weights_sha256=info.dense_weights_sha256 or dense.weights_sha256,
        )
        ModelFolder.write(folder, pruned, model.state_dict())

    inputs = {
        "dense": dense.weights_sha256,
        "info": asdict(info),
        "code": code_digest(info.model),
        "prune": asdict(p),
        "lr": t.lr,
        "batch_size": t.batch_size,
        "split": splits.sha256(),
        "seed": config.seed,
        "num_threads": context.num_threads,
    }
    return ModelFolder.load(context.store.step("prune", inputs, compute).path)
