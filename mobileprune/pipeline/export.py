"""Conversion, export, the check of what must not leave, and parity: one step, whose result is an Artifact."""

from __future__ import annotations

import copy
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
from mobileprune.config import Config, ExportConfig
from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.harden import NONE, harden, head
from mobileprune.convert.preprocessing import Baked
from mobileprune.data.splits import Splits
from mobileprune.errors import ArtifactError, ParityError, UsageError
from mobileprune.export import ExportOptions, target
from mobileprune.export.lint import lint
from mobileprune.export.parity import Limits, hardened_parity
from mobileprune.export.target import DENSE, STOCK
from mobileprune.files import sha256
from mobileprune.lazy import Sliced, joined, slices
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import lineage_of, normalise, pixels, splits_for
from mobileprune.pipeline.prune import pruning_lineage
from mobileprune.runs import tool_versions
from mobileprune.runtimes import kernels_used, open_runtime
from mobileprune.runtimes.kernels import library_sha256
from mobileprune.training import BATCH, predict

PARITY_INPUTS = 2000
CALIBRATION_IMAGES = 256
LOCATE_INPUTS = 8
PARITY_BATCHES = (1, 2, 17)  # beside full batches: sizes at which a dynamic batch goes wrong


def export(folder: ModelFolder, config: Config, context: Context) -> Artifact:
    """The model of ``folder`` as an artifact in the run store; ParityError if the file computes something else."""
    torch.set_num_threads(context.num_threads)
    wanted, splits, info = config.export, splits_for(folder, config), folder.info
    chosen = target(wanted.target)
    chosen.check(wanted.precision, wanted.sparse_format, wanted.kernels)
    head(wanted.harden, info.num_classes)  # says now what it cannot do

    def compute(path: Path, partial: Path) -> None:
        model: torch.nn.Module = fold_bn(folder.restore())
        if wanted.bake_preprocessing:
            model = Baked(model, info.mean, info.std).eval()
        model = harden(model, wanted.harden, info.num_classes)
        calibration = calibration_images(folder, splits, baked=wanted.bake_preprocessing)
        options = ExportOptions(
            wanted.opset, wanted.bytecode_version, wanted.precision, wanted.sparse_format, calibration, wanted.kernels
        )
        with tempfile.TemporaryDirectory(dir=partial) as work:
            file = Path(work) / chosen.file
            storage = chosen.write(model, info.input_shape, file, options)
            lint(file, info.input_shape)
            manifest = _manifest(file, chosen.name, asdict(storage), folder, config)
            draft = write_artifact(Path(work) / "draft", file, manifest)
            try:
                parity = check_parity(draft, folder, splits, wanted)
            except ParityError as error:
                place = chosen.locate(model, file, calibration[:LOCATE_INPUTS], options) if chosen.locate else ""
                raise ParityError(f"{error}{place}{unstable(model, calibration, wanted.atol)}") from error
            write_artifact(path / "artifact", file, replace(manifest, parity=parity))

    inputs = {
        "weights": folder.weights_sha256,
        "info": asdict(info),
        "code": code_digest(info.model),
        "export": asdict(wanted),
        "split": splits.sha256(),
        "library": library_sha256() if wanted.kernels != STOCK else None,  # parity is checked with it
    }
    step = context.store.step("export", inputs, compute, of=_said(folder, wanted))
    return Artifact.load(step.path / "artifact")


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


def _said(folder: ModelFolder, wanted: ExportConfig) -> str:
    """What is exported, for a line of progress: an audit exports the dense baseline too."""
    state = "pruned" if folder.info.config.get("prune") else "dense"
    bits = "" if wanted.precision == "fp32" else f", {wanted.precision}"
    return f"{state} {folder.info.model}, {wanted.target}{bits}"


def as_baseline(wanted: ExportConfig) -> ExportConfig:
    """How a model is exported that stands for what was before: dense, in float32 and not hardened."""
    return replace(wanted, harden=NONE, precision="fp32", sparse_format=DENSE, kernels=STOCK)


def calibration_images(folder: ModelFolder, splits: Splits, *, baked: bool) -> torch.Tensor:
    """Inputs (N, C, H, W) as the network gets them: of the reference set where there is one, so that not even the
    ranges of activations tell of members."""
    chosen = splits.reference if len(splits.reference) else splits.members
    x = pixels(splits, chosen)[:CALIBRATION_IMAGES]
    return torch.as_tensor(x if baked else normalise(x, folder.info.mean, folder.info.std))


def unstable(model: torch.nn.Module, x: torch.Tensor, atol: float) -> str:
    """For an error message: whether ``model`` answers ``x`` differently in float64, so that no file can agree."""
    with torch.no_grad():
        single = model(x).double()
        difference = float((copy.deepcopy(model).double()(x.double()) - single).abs().max())
    return f"; in float64 the PyTorch model itself answers otherwise by {difference:.2g}" if difference > atol else ""


def _manifest(file: Path, target: str, storage: dict[str, Any], folder: ModelFolder, config: Config) -> Manifest:
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
        created=_now(),
    )


def check_parity(artifact: Artifact, folder: ModelFolder, splits: Splits, wanted: ExportConfig) -> dict[str, Any]:
    """Members and held-out images, black, white and noise, at several batch sizes, through the runtime.

    The file is held against the PyTorch model, hardened as the manifest says; if sparse layers run on the native
    library here, on the kernels of ONNX Runtime too, which is what others may have.
    """
    used = kernels_used(artifact)
    if used and used.native:
        _parity(artifact, folder, splits, wanted, native=False)
    return _parity(artifact, folder, splits, wanted, native=True)


def _parity(
    artifact: Artifact, folder: ModelFolder, splits: Splits, wanted: ExportConfig, *, native: bool
) -> dict[str, Any]:
    real = pixels(splits, np.concatenate([splits.members, splits.held_out])[:PARITY_INPUTS])
    noise = np.random.default_rng(0).uniform(size=(1, *folder.info.input_shape))
    extremes = np.concatenate([np.zeros_like(noise), np.ones_like(noise), noise]).astype(np.float32)
    inputs = joined(real, extremes)
    runtime = open_runtime(artifact, native=native)
    exact = wanted.precision == "fp32"
    parts: list[Sliced[np.float32]] = [real]  # without noise, which has no clear winner
    if exact:
        parts = [inputs, *(inputs[: 2 * size] for size in PARITY_BATCHES)]
    exported = [runtime.predict(x, size) for x, size in zip(parts, (256, *PARITY_BATCHES), strict=False)]
    source = source_logits(folder, inputs)
    logits = np.concatenate([source[: len(x)] for x in parts])
    limits = Limits(wanted.atol, wanted.rtol, None if exact else wanted.min_agreement)
    last = head(wanted.harden, folder.info.num_classes)
    return hardened_parity(np.concatenate(exported).astype(np.float64), logits, last, limits)


def source_logits(folder: ModelFolder, x: Sliced[np.float32]) -> NDArray[np.float64]:
    """The PyTorch model's logits (N, K) for pixels (N, C, H, W) in [0, 1]."""
    model, info = folder.restore(), folder.info
    batches = (normalise(x[part], info.mean, info.std) for part in slices(len(x), BATCH))
    logits = np.concatenate([predict(model, batch).numpy() for batch in batches])
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
