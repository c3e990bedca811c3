"""The manifest of an artifact: what is known before any work, and all of it once the file is there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobileprune import source_date
from mobileprune.artifact import Manifest
from mobileprune.config import Config
from mobileprune.files import sha256
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.inputs import lineage_of
from mobileprune.pipeline.prune import pruning_lineage
from mobileprune.runs import tool_versions


def planned(config: Config, source: str | Path | None, *, pruning: bool) -> dict[str, Any]:
    """What the lineage of the artifact will say for certain, known before any work; {} where nothing is."""
    if source is None and config.train.checkpoint and not Path(config.train.checkpoint).is_file():
        return {}  # whoever reads it says so
    made_from = lineage_of(config) if source is None else ModelFolder.load(Path(source)).info.config
    return _decided(made_from | {"prune": pruning_lineage(config.prune)} if pruning else made_from, config)


def _decided(made_from: dict[str, Any], config: Config) -> dict[str, Any]:
    """The part of a lineage that options and installed tools decide."""
    return {
        "data": {**made_from["data"], "seed": made_from["seed"]},
        "train": made_from["train"],
        "prune": made_from.get("prune"),
        "export": asdict(config.export),
        "versions": tool_versions(),
    }


def manifest_of(file: Path, target: str, storage: dict[str, Any], folder: ModelFolder, config: Config) -> Manifest:
    """Of the model file ``file``, but for what its parity with the PyTorch model is."""
    info = folder.info
    decided = _decided(info.config, config)
    return Manifest(
        target=target,
        file=file.name,
        sha256=sha256(file),
        size_bytes=file.stat().st_size,
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        mean=tuple(info.mean),
        std=tuple(info.std),
        preprocessing_baked=config.export.bake_preprocessing,
        labels=tuple(info.labels),
        sparsity=info.sparsity,
        precision=config.export.precision,
        storage=storage,
        parity={},
        lineage={
            **decided,
            "data": {**decided["data"], "split_sha256": info.split_sha256},
            "weights_sha256": folder.weights_sha256,
            "dense_weights_sha256": info.dense_weights_sha256,
            "held_out_unseen": info.held_out_unseen,
            "differential_privacy": info.differential_privacy,
            "removed_channels": sum(map(len, info.removed_channels.values())),
        },
        created=source_date.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
