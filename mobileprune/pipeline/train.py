"""The dense model: trained, or the user's checkpoint taken over; or a model folder of the user's adopted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mobileprune import models
from mobileprune.artifact import Manifest
from mobileprune.config import Config
from mobileprune.convert.fold_bn import reestimate
from mobileprune.data.splits import Splits
from mobileprune.defenses import Situation, defend
from mobileprune.defenses.dpsgd import DpSgd
from mobileprune.errors import MobilepruneError
from mobileprune.files import read_regular
from mobileprune.models.checkpoint import load_into, read_weights
from mobileprune.models.folder import MAX_RECORD_BYTES, RECORD, WEIGHTS, ModelFolder, ModelInfo
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.crossfit import crossfitted
from mobileprune.pipeline.inputs import examples, lineage_of, network, splits_of, statistics_of
from mobileprune.pruning.masks import count_zeros, prunable
from mobileprune.runs import RunStore
from mobileprune.schemas import parse
from mobileprune.training import Recipe, fit


def train(config: Config, context: Context) -> ModelFolder:
    torch.set_num_threads(context.num_threads)
    if config.train.checkpoint:
        read_weights(Path(config.train.checkpoint))  # say what is wrong before any work is done
    splits, made_from = splits_of(config), lineage_of(config)
    mean, std = statistics_of(config.train, splits)
    num_classes, input_shape = len(splits.images.classes), splits.images.shape

    def lookalikes() -> dict[str, torch.nn.Module]:
        return models.lookalikes(config.train.model, num_classes=num_classes, input_shape=input_shape)

    def compute(folder: Path, partial: Path) -> None:
        model = network(config.train, splits, config.training_seed)
        guarantee = None
        if config.train.checkpoint:
            load_into(model, Path(config.train.checkpoint), lookalikes)
        else:
            guarantee = _fitted(model, config, splits, context, partial)
        names = list(prunable(model))
        info = ModelInfo(
            model=config.train.model,
            num_classes=num_classes,
            input_shape=input_shape,
            mean=mean,
            std=std,
            labels=list(splits.images.classes),
            split_sha256=splits.sha256(),
            held_out_unseen=not config.train.checkpoint or splits.membership == "stated",
            config=made_from,
            sparsity=count_zeros(model, names),
            differential_privacy=guarantee,
        )
        ModelFolder.write(folder, info, model.state_dict())

    inputs = {
        "config": made_from,
        "code": models.code_digest(config.train.model),
        "split": splits.sha256(),
        "num_threads": context.num_threads,
    }
    return ModelFolder.load(context.store.step("train", inputs, compute, of=config.train.model).path)


def _fitted(
    model: torch.nn.Module, config: Config, splits: Splits, context: Context, partial: Path
) -> dict[str, float] | None:
    """Train ``model`` in place, with the defences asked for; the guarantee of differential privacy, if one gives it."""
    t, (mean, std) = config.train, statistics_of(config.train, splits)
    situation = Situation(
        examples(splits, splits.members, mean, std),
        examples(splits, splits.reference, mean, std),
        len(splits.images.classes),
        config.training_seed,
        crossfitted=lambda folds: crossfitted(config, splits, mean, std, folds, context),
    )
    plan = defend(t.train_defense, "training", situation)
    fit(
        model,
        plan.examples,
        Recipe(t.epochs, t.lr, t.batch_size, augment=t.augment),
        seed=config.training_seed,
        hooks=plan.hooks,
        checkpoint=context.checkpoint(partial)("training"),
        progress=context.progress,
    )
    reestimate(model, plan.examples)  # with a momentum of 0.01, a short training leaves statistics of its beginning
    return next((hook.guarantee() for hook in plan.hooks if isinstance(hook, DpSgd)), None)


def adopt(folder: ModelFolder, context: Context) -> ModelFolder:
    """Copy a model folder of the user's into the run store, so that a later audit finds it by its hash."""

    def compute(copy: Path, partial: Path) -> None:
        ModelFolder.write(copy, folder.info, read_weights(folder.path / WEIGHTS))

    inputs: dict[str, Any] = {"weights": folder.weights_sha256, "info": asdict(folder.info)}
    return ModelFolder.load(context.store.step("adopt", inputs, compute, of=folder.info.model).path)


def find_model(store: RunStore, weights_sha256: str | None, manifest: Manifest) -> ModelFolder | None:
    """The model folder in the store that holds these weights for the split of ``manifest`` and its mean and standard
    deviation: a checkpoint can serve several."""
    wanted = [weights_sha256, manifest.lineage["data"]["split_sha256"], [*manifest.mean], [*manifest.std]]
    for step in ("train", "prune", "adopt"):
        for record in sorted((store.root / step).glob(f"[!.]*/{RECORD}")):
            try:
                values = parse(read_regular(record, MAX_RECORD_BYTES))
                found = [values[name] for name in ("weights_sha256", "split_sha256", "mean", "std")]
            except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
                raise MobilepruneError(f"{record} is damaged; delete {record.parent} and run again") from error
            if found == wanted:
                return ModelFolder.load(record.parent)
    return None
