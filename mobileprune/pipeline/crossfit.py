r"""Cross-fitted labels: what models that never saw an image say about it (after SELENA, arXiv 2110.08324).

The members are divided into folds. For each, a fresh dense model is trained on the other folds, stopped where its
loss on this fold is lowest, and its probabilities on this fold become the labels:

    label(x_i, y_i) = softmax(f_{-fold(i)}(x_i))

A network trained on them never meets a member's own label: (x_i, y_i) can reach it only through what others learn,
and through the one epoch that is chosen for its whole fold. (A network that is pruned starts from dense weights that
did meet it; retraining on these labels overwrites what they remember, as far as the attacks can tell.)
No reference set is needed. One step of the run store, shared by all that is trained or pruned on the same split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mobileprune import models
from mobileprune.config import Config
from mobileprune.convert.fold_bn import reestimate
from mobileprune.data.splits import Splits
from mobileprune.defenses.early_stopping import EarlyStopping
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import examples, lineage_of, network
from mobileprune.seeding import stream, torch_rng
from mobileprune.tensors import load, save
from mobileprune.training import Examples, Recipe, fit, predict

LABELS = "labels.safetensors"
PATIENCE = 5


def crossfitted(
    config: Config, splits: Splits, mean: list[float], std: list[float], folds: int, context: Context
) -> Examples:
    """The members with probabilities (N, K) float32 as labels."""
    members, t = examples(splits, splits.members, mean, std), config.train

    def compute(folder: Path, partial: Path) -> None:
        labels = torch.zeros(len(members), len(splits.images.classes))
        order = torch.randperm(len(members), generator=torch_rng(config.training_seed, "folds"))
        for k, fold in enumerate(order.tensor_split(folds)):
            others = torch.cat([part for j, part in enumerate(order.tensor_split(folds)) if j != k])
            inside, outside = (members.take(i) for i in (others, fold))
            seed, what = stream(config.training_seed, "fold", k), f"fold {k + 1} of {folds}"
            model = network(t, splits, seed)
            recipe = Recipe(t.epochs, t.lr, t.batch_size, augment=t.augment)
            fit(
                model,
                inside,
                recipe,
                seed=seed,
                what=what,
                hooks=[EarlyStopping(outside, PATIENCE)],
                checkpoint=context.checkpoint(partial)(what),
                progress=context.progress,
            )
            reestimate(model, inside)
            labels[fold] = predict(model, outside).softmax(1)
        save({"labels": labels}, folder / LABELS)

    made_from = lineage_of(config)
    del made_from["train"]["train_defense"], made_from["train"]["checkpoint"]
    inputs = {
        "config": made_from,
        "folds": folds,
        "code": models.code_digest(t.model),
        "split": splits.sha256(),
        "num_threads": context.num_threads,
    }
    tensors, _ = load(context.store.step("crossfit", inputs, compute, of=t.model).path / LABELS)
    return replace(members, y=tensors["labels"])
