"""From the configured data to the arrays that models and runtimes take."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune import data
from mobileprune.config import Config, DataConfig
from mobileprune.data.splits import Splits, default_canaries, split
from mobileprune.files import sha256
from mobileprune.training import Examples


def splits_of(config: Config) -> Splits:
    d = config.data
    canaries = default_canaries(d.dataset) if d.canaries is None else d.canaries
    return _splits(d.dataset, d.data_dir, config.seed, d.members, canaries)


@lru_cache(maxsize=4)
def _splits(dataset: str, data_dir: str | None, seed: int, members: int | None, canaries: float) -> Splits:
    images = data.load(dataset, Path(data_dir) if data_dir else None)
    return split(images, seed=seed, members=members, canaries=canaries)


def pixels(splits: Splits, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """(N, C, H, W) float32 in [0, 1]"""
    return splits.images.pixels[indices].astype(np.float32) / np.float32(255)


def normalise(x: NDArray[np.float32], mean: list[float], std: list[float]) -> torch.Tensor:
    """(x - mean) / std per channel, (N, C, H, W) float32."""
    centre, scale = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std))
    return torch.from_numpy((x - centre) / scale)


def examples(splits: Splits, indices: NDArray[np.int64], mean: list[float], std: list[float]) -> Examples:
    x = normalise(pixels(splits, indices), mean, std)
    return Examples(x, torch.from_numpy(splits.labels[indices]))


def channel_statistics(splits: Splits) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the members' pixels, to 4 digits."""
    x = splits.images.pixels[splits.members].astype(np.float64) / 255
    mean, std = x.mean((0, 2, 3)), np.maximum(x.std((0, 2, 3)), 1e-3)
    return [round(float(m), 4) for m in mean], [round(float(s), 4) for s in std]


def lineage_of(config: Config) -> dict[str, Any]:
    """What a dense model depends on, without paths of this machine: user data by name, a checkpoint by its hash."""
    values = config.to_dict()
    prefix, colon, path = config.data.dataset.partition(":")
    values["data"]["dataset"] = prefix + colon + Path(path).name
    del values["data"]["data_dir"]
    if config.train.checkpoint:
        values["train"]["checkpoint"] = sha256(Path(config.train.checkpoint))
    return {name: values[name] for name in ("data", "train", "seed")}


def data_from_lineage(recorded: dict[str, Any]) -> DataConfig:
    """The data of a lineage, as far as they can be found without their owner: a path is never taken from a file."""
    known = {key: recorded[key] for key in ("dataset", "members", "canaries")}
    if ":" in known["dataset"]:
        known["dataset"] = DataConfig.dataset  # the caller has to give --dataset; the split's hash tells if not
    return DataConfig(**known)
