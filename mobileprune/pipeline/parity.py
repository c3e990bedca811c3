"""Does the exported file answer as the PyTorch model does? Asked through its runtime."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.artifact import Artifact
from mobileprune.config import ExportConfig
from mobileprune.convert.harden import head
from mobileprune.data.splits import Indices, Splits
from mobileprune.errors import ArtifactError
from mobileprune.export.parity import Tolerances, hardened_parity
from mobileprune.lazy import Sliced, joined, slices
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.inputs import normalise, pixels
from mobileprune.runtimes import kernels_used, open_runtime
from mobileprune.training import BATCH, predict

MOST_OF_A_SIDE = 1000
PARITY_BATCHES = (1, 2, 17)  # beside full batches: sizes at which a dynamic batch goes wrong


def check_parity(artifact: Artifact, folder: ModelFolder, splits: Splits, wanted: ExportConfig) -> dict[str, Any]:
    """Members and held-out images, black, white and noise, at several batch sizes, through the runtime.

    The file is held against the PyTorch model, hardened as the manifest says; if sparse layers run on the native
    library here, on the kernels of ONNX Runtime too, which is what others may have.
    """
    used = kernels_used(artifact)
    if used and used.native:
        _parity(artifact, folder, splits, wanted, native=False)
    return _parity(artifact, folder, splits, wanted, native=True)


def parity_images(splits: Splits) -> Indices:
    """As many held-out images as members: where a model knows an image by heart, a file agrees more easily."""
    return np.concatenate([splits.members[:MOST_OF_A_SIDE], splits.held_out[:MOST_OF_A_SIDE]])


def _parity(
    artifact: Artifact, folder: ModelFolder, splits: Splits, wanted: ExportConfig, *, native: bool
) -> dict[str, Any]:
    real = pixels(splits, parity_images(splits))
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
    allowed = Tolerances(wanted.atol, wanted.rtol, None if exact else wanted.min_agreement)
    last = head(wanted.harden, folder.info.num_classes)
    return hardened_parity(np.concatenate(exported).astype(np.float64), logits, last, allowed)


def source_logits(folder: ModelFolder, x: Sliced[np.float32]) -> NDArray[np.float64]:
    """The PyTorch model's logits (N, K) for pixels (N, C, H, W) in [0, 1]."""
    model, info = folder.restore(), folder.info
    batches = (normalise(x[part], info.mean, info.std) for part in slices(len(x), BATCH))
    logits = np.concatenate([predict(model, batch).numpy() for batch in batches])
    if not np.isfinite(logits).all():
        raise ArtifactError(f"{folder.path}: the model's outputs hold NaN or infinity; train it again")
    return logits.astype(np.float64)


def unstable(model: torch.nn.Module, x: torch.Tensor, atol: float) -> str:
    """For an error message: whether ``model`` answers ``x`` differently in float64, so that no file can agree."""
    with torch.no_grad():
        single = model(x).double()
        difference = float((copy.deepcopy(model).double()(x.double()) - single).abs().max())
    return f"; in float64 the PyTorch model itself answers otherwise by {difference:.2g}" if difference > atol else ""
