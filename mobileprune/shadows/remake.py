"""How a target was made, as far as its manifest, the run store and the caller tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobileprune import models
from mobileprune.artifact import Artifact
from mobileprune.config import Config, ExportConfig, PruneConfig, TrainConfig
from mobileprune.errors import DataError, UsageError
from mobileprune.files import sha256
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import data_from_lineage
from mobileprune.pipeline.train import find_model
from mobileprune.pruning.budgets import SHARED
from mobileprune.runs import read_record

RETRAINING = ("lr", "batch_size", "augment")
"""What of TrainConfig retraining takes too."""


def pipeline_of(artifact: Artifact, overrides: Mapping[str, Any]) -> Config:
    """The configuration that makes ``artifact``, from its lineage (``prune`` counts only where that tells of pruning).

    ``overrides`` gives what a file must not decide: dataset and data_dir, the ``model`` where it is a function of the
    user's, the ``budget`` where it is a file. DataError for a model that did not begin with training; UsageError for an
    override that is missing or another than the artifact's.
    """
    lineage = artifact.manifest.lineage
    made, pruning = TrainConfig(**lineage["train"]), PruneConfig(**lineage["prune"] or {})
    if made.checkpoint:
        raise DataError(
            f"{artifact.path} was made from a checkpoint (sha256 {made.checkpoint[:12]}…), whose training cannot be "
            "repeated for reference models; attack it without (--references 0), or train it with `mobileprune train`"
        )
    if models.is_users(made.model) and overrides.get("model") != made.model:
        raise UsageError(
            f"{artifact.path} was built by {made.model}; reference models run that code: "
            f"allow it with --model {made.model}"
        )
    if pruning.budget not in SHARED:
        file = Path(overrides.get("budget") or "")
        if not file.is_file() or sha256(file) != pruning.budget:
            raise UsageError(
                f"{artifact.path} was pruned with a budget file of sha256 {pruning.budget[:12]}…, which reference "
                "models need too: give it with --budget FILE"
            )
        pruning = replace(pruning, budget=str(file))
    data = data_from_lineage(lineage["data"], overrides)
    return Config(data, made, pruning, ExportConfig(**lineage["export"]), lineage["data"]["seed"])


def retraining_of(artifact: Artifact, config: Config, context: Context) -> Config:
    """``config`` with the learning rate, batch size and augmentation of retraining.

    A pruning of its own may have had others than the dense training; then the run store that it was done in tells.
    Elsewhere they are taken to be the same, as `mobileprune export` without a model has them.
    """
    lineage = artifact.manifest.lineage
    source = find_model(context.store, lineage["weights_sha256"], artifact.manifest)
    record = read_record(source.path) if source else None
    if record is None or record.get("step") != "prune":
        return config
    known = record["inputs"]
    if known["dense"] != lineage["dense_weights_sha256"]:
        raise DataError(
            f"{artifact.path} was pruned more than once, and its lineage tells only of the last time, so reference "
            "models cannot be made the same way; attack it without (--references 0)"
        )
    return replace(config, train=replace(config.train, **{name: known[name] for name in RETRAINING}))
