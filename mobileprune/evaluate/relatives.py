"""What an artifact came from: its data, its PyTorch source and the dense baseline, found again by their hashes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mobileprune.artifact import Artifact
from mobileprune.config import Config, ExportConfig
from mobileprune.data.splits import Splits
from mobileprune.errors import DataError
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import as_baseline, export
from mobileprune.pipeline.inputs import data_from_lineage, splits_of
from mobileprune.pipeline.train import find_model


@dataclass(frozen=True)
class Relatives:
    """The pruned PyTorch source and the exported dense baseline, where they can be found.

    Neither is hardened, nor has fewer bits than float32, whatever the artifact is: they stand for what was before.
    """

    source: ModelFolder | None
    baseline: Artifact | None


def config_of(artifact: Artifact, overrides: dict[str, Any]) -> Config:
    """The configuration of the artifact's data, from its lineage; ``overrides`` (dataset, data_dir) replace parts."""
    recorded = artifact.manifest.lineage["data"]
    return Config(data=data_from_lineage(recorded, overrides), seed=recorded["seed"])


def overrides_of(config: Config) -> dict[str, Any]:
    """What lineages do not tell but an audit of an artifact made with ``config`` needs: where the data lie, and what
    reference models are made from."""
    data, train, prune = config.data, config.train, config.prune
    return {"dataset": data.dataset, "data_dir": data.data_dir, "model": train.model, "budget": prune.budget}


def audit_data(artifact: Artifact, overrides: dict[str, Any]) -> Splits:
    """The very split that the artifact was trained on; DataError when it cannot be had again."""
    recorded = artifact.manifest.lineage["data"]
    splits = splits_of(config_of(artifact, overrides))
    if splits.sha256() != recorded["split_sha256"]:
        raise DataError(
            f"{splits.images.name} is not what {artifact.path} was trained on ({recorded['dataset']}, split "
            f"{recorded['split_sha256'][:12]}…, not {splits.sha256()[:12]}…); "
            "say where it is with --dataset and --data-dir"
        )
    return splits


def relatives(artifact: Artifact, overrides: dict[str, Any], context: Context) -> Relatives:
    """Look the relatives up in the run store by the hashes of the manifest."""
    lineage = artifact.manifest.lineage
    source, dense = (
        find_model(context.store, lineage[name], artifact.manifest)
        for name in ("weights_sha256", "dense_weights_sha256")
    )
    if dense is None:
        return Relatives(source, None)
    same_way = as_baseline(ExportConfig(**lineage["export"]))
    return Relatives(source, export(dense, replace(config_of(artifact, overrides), export=same_way), context))
