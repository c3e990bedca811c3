"""ModelFolder: weights and all that is needed to use them again: ``weights.safetensors`` and ``model.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobileprune.errors import CheckpointError
from mobileprune.files import read_regular, sha256, write_json
from mobileprune.models import build
from mobileprune.models.checkpoint import fill, read_weights
from mobileprune.models.resize import RemovedChannels, check_removed, refit, shapes_of
from mobileprune.schemas import parse, problems
from mobileprune.tensors import Tensors, save

FORMAT = "mobileprune-model/1"
WEIGHTS = "weights.safetensors"
RECORD = "model.json"
MAX_RECORD_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ModelInfo:
    """``config`` is the part of the configuration that made the weights, without any path of this machine.

    ``differential_privacy``: epsilon and delta of the training, None without (or when later steps voided them).
    ``removed_channels``: what of the original network is no longer there, with the numbers that it had there.
    ``sparsity`` counts it as zeros of the original network. Empty where no channel was removed.
    ``held_out_unseen`` is False for a checkpoint of unknown training data: then nobody knows who is a member.
    """

    model: str
    num_classes: int
    input_shape: tuple[int, int, int]
    mean: list[float]
    std: list[float]
    labels: list[str]
    split_sha256: str
    held_out_unseen: bool
    config: dict[str, Any]
    sparsity: dict[str, Any]
    dense_weights_sha256: str | None = None
    differential_privacy: dict[str, float] | None = None
    removed_channels: RemovedChannels = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    info: ModelInfo
    weights_sha256: str

    @classmethod
    def write(cls, path: Path, info: ModelInfo, weights: Tensors) -> None:
        save(weights, path / WEIGHTS)
        record = {"format": FORMAT, "weights_sha256": sha256(path / WEIGHTS), **asdict(info)}
        write_json(path / RECORD, record)

    @classmethod
    def load(cls, path: Path) -> ModelFolder:
        try:
            record = parse(read_regular(path / RECORD, MAX_RECORD_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path} is not a model folder of `mobileprune train` or `prune` ({error})"
            ) from error
        wrong = problems(record, "model_folder")
        if wrong:
            raise CheckpointError(f"{path / RECORD}: {'; '.join(wrong)}; make it again with `mobileprune train`")
        del record["format"]
        expected = record.pop("weights_sha256")
        info = ModelInfo(**record | {"input_shape": tuple(record["input_shape"])})
        if not (path / WEIGHTS).is_file() or sha256(path / WEIGHTS) != expected:
            raise CheckpointError(f"{path / WEIGHTS}: missing, or its sha256 is not the one in {RECORD}; make it again")
        return cls(path, info, expected)

    def original(self) -> nn.Module:
        """The network as it was before any channel was removed, freshly initialised."""
        info, train = self.info, self.info.config["train"]
        return build(
            info.model,
            num_classes=info.num_classes,
            input_shape=info.input_shape,
            seed=0,
            width_mult=train["width_mult"],
            norm=train["norm"],
        )

    def restore(self) -> nn.Module:
        """The network with its weights, in eval mode, as small as they are; CheckpointError if they do not fit it."""
        info, file, model = self.info, self.path / WEIGHTS, self.original()
        weights = read_weights(file)
        if not info.removed_channels:
            return fill(model, weights, str(file))
        check_removed(model, shapes_of(weights), info.removed_channels)
        logits = refit(model, weights, torch.zeros(2, *info.input_shape), str(file))
        if tuple(getattr(logits, "shape", ())) != (2, info.num_classes):
            raise CheckpointError(f"{file} makes a network without {info.num_classes} outputs; make it again")
        return model
