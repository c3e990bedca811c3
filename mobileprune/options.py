"""The options of the API's verbs: laid over a configuration, and refused where they could have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobileprune import data, defenses, models
from mobileprune.config import OWNERS, Config, TrainConfig, from_dict, nested
from mobileprune.convert.harden import hardening
from mobileprune.errors import UsageError
from mobileprune.export import target
from mobileprune.models.folder import ModelFolder
from mobileprune.option import flag
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import data_from_lineage
from mobileprune.pipeline.prune import check as check_pruning
from mobileprune.pipeline.train import adopt


def configure(source: str | Path | None = None, **options: Any) -> Config:
    """The defaults, or what the model folder ``source`` was made from, with flat ``options`` laid over.

    ``configure(sparsity=0.9, target="onnx", seed=1)``: every long flag of data, training, pruning and export, with _
    for -. A source built by a function of the user's needs the same ``model`` given again: a file alone never decides
    which code is run.
    """
    if source is None:
        return from_dict(nested(options))
    info = ModelFolder.load(Path(source)).info
    train = TrainConfig(augment=info.config["train"]["augment"])  # retraining goes on as training went
    base = Config(data_from_lineage(info.config["data"], options), train, seed=info.config["seed"])
    if not models.is_users(info.model):
        base = replace(base, train=replace(train, model=info.model))
    config = from_dict(nested(options), base)
    if config.train.model != info.model:
        raise UsageError(
            f"{source} was built by {info.model}, not by {config.train.model}; using it runs that code: "
            f"allow it with --model {info.model}"
        )
    return config


def given(source: str | Path, options: Mapping[str, Any], ctx: Context, *, pruning: bool) -> ModelFolder:
    """The user's model folder; an option that could not have an effect on it is refused, not ignored."""
    allowed = {"model", "lr", "batch_size", "augment"} if pruning else {"model"}
    idle = [o for o in options if OWNERS.get(o) == "train" and o not in allowed]
    if idle:
        raise UsageError(
            f"{source} is trained already: {', '.join(map(flag, idle))} would have no effect; leave it out"
        )
    return adopt(ModelFolder.load(Path(source)), ctx)


def check_options(config: Config, options: Mapping[str, Any]) -> None:
    """What the configuration alone cannot know: names in registries, and which options go together."""
    if {"sparsity", "channel_ratio"} <= options.keys():
        raise UsageError("--sparsity and --channel-ratio say the same thing in two ways; give one of them")
    data.check_size(config.data.dataset, config.data.image_size)
    hardening(config.export.harden)
    target(config.export.target).check(config.export.precision, config.export.sparse_format, config.export.kernels)
    if config.train.checkpoint and config.train.train_defense != defenses.NONE:
        raise UsageError("--train-defense has no effect on weights that come from --checkpoint; leave one of them out")
    defenses.check(config.train.train_defense, ("training",), "--train-defense")
    check_pruning(config)
