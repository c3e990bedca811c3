"""Conversion, export, the check of what must not leave, and parity: one step, whose result is an Artifact."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from mobileprune.artifact import Artifact, write_artifact
from mobileprune.config import Config, ExportConfig
from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.harden import NONE, harden, head
from mobileprune.convert.preprocessing import Baked
from mobileprune.data.splits import Splits
from mobileprune.errors import ParityError
from mobileprune.export import ExportOptions, target
from mobileprune.export.lint import lint
from mobileprune.export.target import DENSE, STOCK
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import normalise, pixels, splits_for
from mobileprune.pipeline.manifest import manifest_of
from mobileprune.pipeline.parity import check_parity, unstable
from mobileprune.runtimes.kernels import library_sha256

CALIBRATION_IMAGES = 256
LOCATE_INPUTS = 8


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
            manifest = manifest_of(file, chosen.name, asdict(storage), folder, config)
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
