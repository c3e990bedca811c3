"""Conversion, export, the check of what must not leave, and parity: one step, whose result is an Artifact."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.artifact import Artifact, Manifest, write_artifact
from mobileprune.config import Config
from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.harden import harden, head
from mobileprune.convert.preprocessing import Baked
from mobileprune.data.splits import Splits
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.export import ExportOptions, target
from mobileprune.export.lint import lint
from mobileprune.export.parity import hardened_parity
from mobileprune.files import sha256
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import normalise, pixels, splits_for
from mobileprune.runs import tool_versions
from mobileprune.runtimes import open_runtime
from mobileprune.training import predict

PARITY_INPUTS = 2000
PARITY_BATCHES = (1, 2, 17)  # beside full batches: sizes at which a dynamic batch goes wrong


def export(folder: ModelFolder, config: Config, context: Context) -> Artifact:
    """The model of ``folder`` as an artifact in the run store; ParityError if the file computes something else."""
    torch.set_num_threads(context.num_threads)
    chosen, splits, info = target(config.export.target), splits_for(folder, config), folder.info
    head(config.export.harden, info.num_classes)  # says now what it cannot do

    def compute(path: Path, partial: Path) -> None:
        model: torch.nn.Module = fold_bn(folder.restore())
        if config.export.bake_preprocessing:
            model = Baked(model, info.mean, info.std).eval()
        model = harden(model, config.export.harden, info.num_classes)
        with tempfile.TemporaryDirectory(dir=partial) as work:
            file = Path(work) / chosen.file
            options = ExportOptions(config.export.opset, config.export.bytecode_version)
            chosen.write(model, info.input_shape, file, options)
            lint(file)
            manifest = _manifest(file, chosen.name, folder, config)
            draft = write_artifact(Path(work) / "draft", file, manifest)
            checked = replace(manifest, parity=check_parity(draft, folder, splits, config.export.atol))
            write_artifact(path / "artifact", file, checked)

    inputs = {
        "weights": folder.weights_sha256,
        "info": asdict(info),
        "code": code_digest(info.model),
        "export": asdict(config.export),
        "split": splits.sha256(),
    }
    step = context.store.step("export", inputs, compute)
    return Artifact.load(step.path / "artifact")


def _manifest(file: Path, target: str, folder: ModelFolder, config: Config) -> Manifest:
    info = folder.info
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
        forms=("dense",),
        parity={},
        lineage={
            "data": {**info.config["data"], "seed": info.config["seed"], "split_sha256": info.split_sha256},
            "train": info.config["train"],
            "prune": info.config.get("prune"),
            "export": asdict(config.export),
            "weights_sha256": folder.weights_sha256,
            "dense_weights_sha256": info.dense_weights_sha256,
            "held_out_unseen": info.held_out_unseen,
            "differential_privacy": info.differential_privacy,
            "versions": tool_versions(),
        },
        created=_now(),
    )


def check_parity(artifact: Artifact, folder: ModelFolder, splits: Splits, atol: float) -> dict[str, Any]:
    """Members and held-out images, black, white and noise, at several batch sizes, through the runtime.

    The file is held against the PyTorch model, hardened as the manifest says.
    """
    real = pixels(splits, np.concatenate([splits.members, splits.held_out])[:PARITY_INPUTS])
    noise = np.random.default_rng(0).uniform(size=(1, *folder.info.input_shape))
    extremes = np.concatenate([np.zeros_like(noise), np.ones_like(noise), noise]).astype(np.float32)
    inputs = np.concatenate([real, extremes])
    runtime = open_runtime(artifact)
    parts = [inputs, *(inputs[: 2 * size] for size in PARITY_BATCHES)]
    exported = [runtime.predict(x, size) for x, size in zip(parts, (256, *PARITY_BATCHES), strict=True)]
    source = source_logits(folder, inputs)
    logits = np.concatenate([source[: len(x)] for x in parts])
    last = head(artifact.manifest.lineage["export"]["harden"], folder.info.num_classes)
    return hardened_parity(np.concatenate(exported).astype(np.float64), logits, last, atol=atol)


def source_logits(folder: ModelFolder, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The PyTorch model's logits (N, K) for pixels (N, C, H, W) in [0, 1]."""
    logits = predict(folder.restore(), normalise(x, folder.info.mean, folder.info.std)).numpy()
    if not np.isfinite(logits).all():
        raise ArtifactError(f"{folder.path}: the model's outputs hold NaN or infinity; train it again")
    return logits.astype(np.float64)


def _now() -> str:
    """ISO-8601 UTC; ``SOURCE_DATE_EPOCH`` fixes it for reproducible builds."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdecimal():
        raise UsageError(f"SOURCE_DATE_EPOCH={epoch!r}: must be whole seconds since 1970")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
