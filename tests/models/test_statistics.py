"""--mean and --std: given for every channel or once for all, or the members' own; and what training makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.config import Config, DataConfig, TrainConfig
from mobileprune.data import Images
from mobileprune.data.splits import Splits
from mobileprune.errors import UsageError
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import channel_statistics, splits_of, statistics_of
from mobileprune.pipeline.train import train
from mobileprune.runs import RunStore

GRAY = splits_of(Config(DataConfig(members=60)))


class Coloured:
    """Splits of which only the number of channels is asked for."""

    class images:
        shape = (3, 32, 32)


def test_without_them_they_are_the_members() -> None:
    assert statistics_of(TrainConfig(), GRAY) == channel_statistics(GRAY)


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ("0.485,0.456,0.406", "0.229,0.224,0.225", ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        ("0.5", " .5, 0.25 ,1e-3", ([0.5] * 3, [0.5, 0.25, 1e-3])),
        ("0", "1", ([0.0] * 3, [1.0] * 3)),
        ("-1,0,1000", "1000", ([-1.0, 0.0, 1000.0], [1000.0] * 3)),
    ],
)
def test_one_number_a_channel_or_one_for_all(mean: str, std: str, expected: tuple[list[float], list[float]]) -> None:
    assert statistics_of(TrainConfig(mean=mean, std=std), Coloured) == expected


@pytest.mark.parametrize(
    ("mean", "std", "match"),
    [
        ("0.5", None, "--std is missing: give --mean and --std, or neither"),
        (None, "0.5", "--mean is missing: give --mean and --std, or neither"),
        ("0.5,0.5", "1", "--mean '0.5,0.5': 2 numbers, but the images need 1 number or 3, one a channel"),
        ("0.5", "1,1,1,1", "--std '1,1,1,1': 4 numbers"),
        ("a,b,c", "1", "--mean 'a,b,c': must be numbers separated by commas"),
        ("", "1", "--mean '': must be numbers"),
        ("0.5,,0.5", "1", "must be numbers"),
        ("nan", "1", r"--mean 'nan': must be in \[-1000, 1000\]"),
        ("inf", "1", "--mean 'inf': must be in"),
        ("0", "1,nan,1", r"--std '1,nan,1': must be in \[0.001, 1000\]"),
        ("0", "0", "--std '0': must be in"),
        ("0", "-1", "--std '-1': must be in"),
    ],
)
def test_others_are_refused(mean: str | None, std: str | None, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        statistics_of(TrainConfig(mean=mean, std=std), Coloured)


def test_gray_images_need_one_number() -> None:
    with pytest.raises(UsageError, match=r"3 numbers, but the images need 1 number$"):
        statistics_of(TrainConfig(mean="0.5,0.5,0.5", std="1"), GRAY)


def test_training_records_what_it_used_and_its_folder_can_be_restored(tmp_path: Path) -> None:
    made = TrainConfig("mobilenetv2", width_mult=0.25, norm="group", mean="0.5", std="0.25", epochs=1)
    folder = train(Config(DataConfig(members=60), made), Context(RunStore(tmp_path)))
    assert (folder.info.mean, folder.info.std) == ([0.5], [0.25])
    model = folder.restore()
    assert any(isinstance(m, torch.nn.GroupNorm) for m in model.modules())
    assert model(torch.zeros(2, *folder.info.input_shape)).shape == (2, 10)


@settings(max_examples=60)
@given(
    members=st.integers(20, 200),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 4),
    low=st.integers(0, 255),
    spread=st.integers(1, 256),
    seed=st.integers(0),
)
def test_the_members_statistics_are_those_of_all_pixels_at_once(
    members: int, channels: int, side: int, low: int, spread: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(low, min(256, low + spread), (2 * members, channels, side, side), np.uint8)
    labels = np.arange(len(pixels)) % 2
    images = Images("set", pixels, labels, ("a", "b"))
    half, none = rng.permutation(len(pixels))[:members], np.zeros(0, np.int64)
    splits = Splits(images, labels, half, none, none, none, labels < 0)
    x = pixels[half].astype(np.float64) / 255
    mean, std = x.mean((0, 2, 3)), np.maximum(x.std((0, 2, 3)), 1e-3)
    assert channel_statistics(splits) == ([round(float(m), 4) for m in mean], [round(float(s), 4) for s in std])
