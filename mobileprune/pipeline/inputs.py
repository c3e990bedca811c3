"""From the configured data to the arrays that models and runtimes take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune import data, models
from mobileprune.config import Config, DataConfig, TrainConfig
from mobileprune.data import Images
from mobileprune.data.splits import Splits, default_canaries, redrawn, split
from mobileprune.errors import DataError, UsageError
from mobileprune.files import sha256
from mobileprune.lazy import Lazy, slices
from mobileprune.models.folder import ModelFolder
from mobileprune.pruning.budgets import SHARED
from mobileprune.training import Examples

SUMMED_AT_ONCE = 64
"""Images."""
LARGEST = 1e3
"""Of a given mean or standard deviation; the smallest standard deviation is its inverse. Inputs stay finite."""


def splits_of(config: Config) -> Splits:
    d = config.data
    canaries = default_canaries(d.dataset) if d.canaries is None else d.canaries
    splits = _splits(d.dataset, d.data_dir, d.image_size, config.seed, d.members, canaries, _stamp(d.dataset))
    return splits if d.redraw is None else redrawn(splits, config.seed, d.redraw)


def splits_for(folder: ModelFolder, config: Config) -> Splits:
    """The split that the model of ``folder`` was trained on; DataError when ``config`` leads to another."""
    splits, recorded = splits_of(config), folder.info.config
    if splits.sha256() != folder.info.split_sha256:
        d = recorded["data"]
        more = ("redraw", "image_size")
        also = "".join(f", {name.replace('_', ' ')} {d[name]}" for name in more if d.get(name) is not None)
        raise DataError(
            f"the model was trained on {d['dataset']} (members {d['members'] or 'default'}, canaries "
            f"{'default' if d['canaries'] is None else d['canaries']}, seed {recorded['seed']}{also}), which is not "
            f"what {splits.images.name} with these options gives: repeat its --dataset, --data-dir and options"
        )
    return splits


def _stamp(dataset: str) -> int:
    """Changes when files of the user's data set do."""
    _, _, path = dataset.partition(":")
    files = [Path(path), *Path(path).rglob("*")] if path and Path(path).exists() else []
    return hash(tuple((str(file), stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.stat()]))


@lru_cache(maxsize=4)
def _splits(
    dataset: str,
    data_dir: str | None,
    image_size: int | None,
    seed: int,
    members: int | None,
    canaries: float,
    stamp: int,
) -> Splits:
    return split(_images(dataset, data_dir, image_size, stamp), seed=seed, members=members, canaries=canaries)


@lru_cache(maxsize=1)
def _images(dataset: str, data_dir: str | None, image_size: int | None, stamp: int) -> Images:
    """Apart from the splits, so that those of several seeds share one copy."""
    return data.load(dataset, Path(data_dir) if data_dir else None, image_size)


def pixels(splits: Splits, indices: NDArray[np.int64]) -> Lazy[np.float32]:
    """(N, C, H, W) float32 in [0, 1]"""

    def make(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        x = splits.images.pixels[rows].astype(np.float32)
        x /= np.float32(255)
        return x

    return Lazy(indices, make, splits.images.shape)


def normalise(x: NDArray[np.float32], mean: list[float], std: list[float]) -> torch.Tensor:
    """(x - mean) / std per channel, (N, C, H, W) float32."""
    centre, scale = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std))
    normalised = x - centre
    normalised /= scale
    return torch.from_numpy(normalised)


def examples(splits: Splits, indices: NDArray[np.int64], mean: list[float], std: list[float]) -> Examples:
    # With torch's own strides, because numpy's of one-channel images look like channels-last to torch, which then takes
    # other kernels: the same values would train to other bits.
    raw = splits.images.pixels
    x, rows = torch.from_numpy(raw.reshape(-1)).view(raw.shape), torch.from_numpy(indices)
    y = torch.from_numpy(splits.labels[indices])
    centre, scale = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std))
    return Examples(x, y, centre, scale, rows)


def network(config: TrainConfig, splits: Splits, seed: int) -> torch.nn.Module:
    """The configured model for the images of ``splits``, freshly initialised."""
    return models.build(
        config.model,
        num_classes=len(splits.images.classes),
        input_shape=splits.images.shape,
        seed=seed,
        width_mult=config.width_mult,
        norm=config.norm,
    )


def statistics_of(config: TrainConfig, splits: Splits) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel that inputs are normalised with, of pixels in [0, 1].

    ``config`` gives both, as one number for all channels or one for each, separated by commas (weights that others
    trained need theirs: 0.485,0.456,0.406 and 0.229,0.224,0.225 for ImageNet's), or they are the members'.
    UsageError for anything else.
    """
    channels = splits.images.shape[0]
    if config.mean is None and config.std is None:
        return channel_statistics(splits)
    if config.mean is None or config.std is None:
        missing = "--mean" if config.mean is None else "--std"
        raise UsageError(f"{missing} is missing: give --mean and --std, or neither for the members' own")
    mean = _per_channel("--mean", config.mean, channels, low=-LARGEST)
    return mean, _per_channel("--std", config.std, channels, low=1 / LARGEST)


def _per_channel(option: str, text: str, channels: int, *, low: float) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r}: must be numbers separated by commas, such as 0.485,0.456,0.406") from None
    if len(values) not in (1, channels):
        needed = "1 number" if channels == 1 else f"1 number or {channels}, one a channel"
        raise UsageError(f"{option} {text!r}: {len(values)} numbers, but the images need {needed}")
    if not all(low <= value <= LARGEST for value in values):  # NaN is in no range
        raise UsageError(f"{option} {text!r}: must be in [{low:g}, {LARGEST:g}]; pixels are in [0, 1]")
    return values if len(values) == channels else values * channels


def channel_statistics(splits: Splits) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the members' pixels, to 4 digits."""
    channels, *size = splits.images.shape
    total, squares = np.zeros((2, channels), np.int64)
    for part in slices(len(splits.members), SUMMED_AT_ONCE):
        x = splits.images.pixels[splits.members[part]]
        total += x.sum((0, 2, 3), dtype=np.int64)
        squares += np.square(x, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64)
    count = len(splits.members) * math.prod(size)
    # As integers of any size: exact, in whatever order they are added.
    deviation = [math.sqrt(count * q - s * s) / count for s, q in zip(total.tolist(), squares.tolist(), strict=True)]
    return [round(s / count / 255, 4) for s in total.tolist()], [round(max(d / 255, 1e-3), 4) for d in deviation]


def lineage_of(config: Config) -> dict[str, Any]:
    """What a dense model depends on, without paths of this machine: user data by name, a checkpoint by its hash.

    Images that are taken as they are have no size in it.
    """
    values = config.to_dict()
    prefix, colon, path = config.data.dataset.partition(":")
    values["data"]["dataset"] = prefix + colon + Path(path).name
    del values["data"]["data_dir"]
    if config.data.image_size is None:  # so that what was made before there were image sizes has the same lineage
        del values["data"]["image_size"]
    if config.train.checkpoint:
        values["train"]["checkpoint"] = sha256(Path(config.train.checkpoint))
    return {name: values[name] for name in ("data", "train", "seed")}


def with_whole_paths(config: Config) -> Config:
    """The same data, checkpoint and budget, found from any current folder; what is made of them does not know where
    they were."""

    def whole(path: str | None) -> str | None:
        return path and str(Path(path).resolve())

    prefix, colon, path = config.data.dataset.partition(":")
    dataset = f"{prefix}:{whole(path)}" if colon else prefix
    budget = config.prune.budget if config.prune.budget in SHARED else str(whole(config.prune.budget))
    return replace(
        config,
        data=replace(config.data, dataset=dataset, data_dir=whole(config.data.data_dir)),
        train=replace(config.train, checkpoint=whole(config.train.checkpoint)),
        prune=replace(config.prune, budget=budget),
    )


def data_from_lineage(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> DataConfig:
    """The data of a lineage with the caller's ``given`` options laid over: a path is never taken from a file.

    The size that images were brought to goes with them, but not to data whose images have a size already.
    DataError for data of a user's own whose place the caller does not name.
    """
    known = {key: recorded[key] for key in ("dataset", "members", "canaries")} | {"redraw": recorded.get("redraw")}
    overrides = {key: given[key] for key in ("dataset", "data_dir") if key in given}
    prefix, own, name = known["dataset"].partition(":")
    if own and "dataset" not in overrides:
        raise DataError(f"it was trained on {name}, data of your own: say where they are with --dataset {prefix}:PATH")
    wanted = {**known, **overrides}
    size = recorded.get("image_size") if data.is_resized(wanted["dataset"]) else None
    return DataConfig(**wanted, image_size=size)
