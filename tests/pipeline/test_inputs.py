"""What a lineage may decide about the data, and what only the caller may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mobileprune
from mobileprune.config import DataConfig
from mobileprune.data import Images
from mobileprune.data.splits import redrawn, split
from mobileprune.errors import DataError
from mobileprune.pipeline.inputs import (
    data_from_lineage,
    examples,
    lineage_of,
    pixels,
    splits_for,
    splits_of,
    with_whole_paths,
)

NAMED = {"dataset": "mnist", "members": 50, "canaries": 0.2, "seed": 1, "split_sha256": "0" * 64}
OWN = {**NAMED, "dataset": "npz:xrays.npz"}


def test_named_data_are_taken_from_the_lineage_and_their_place_from_the_caller() -> None:
    assert data_from_lineage(NAMED, {"sparsity": 0.5}) == DataConfig("mnist", None, 50, 0.2)
    assert data_from_lineage(NAMED, {"data_dir": "d"}) == DataConfig("mnist", "d", 50, 0.2)


def test_a_redraw_is_taken_from_the_lineage_which_may_be_older_than_redraws() -> None:
    assert data_from_lineage({**NAMED, "redraw": 3}, {"data_dir": "d"}) == DataConfig("mnist", "d", 50, 0.2, redraw=3)
    assert data_from_lineage({**NAMED, "redraw": None}, {}) == data_from_lineage(NAMED, {})


def test_an_image_size_goes_with_the_images_it_was_for() -> None:
    sized, there = {**OWN, "dataset": "folder:photos", "image_size": 32}, {"dataset": "folder:here/photos"}
    assert data_from_lineage(sized, there).image_size == 32
    assert data_from_lineage({**OWN, "dataset": "folder:photos"}, there).image_size is None, (
        "of before there were sizes"
    )
    assert data_from_lineage(sized, {"dataset": "npz:the-same-pixels.npz"}).image_size is None


def test_a_lineage_without_an_image_size_is_as_before_there_were_sizes() -> None:
    assert lineage_of(mobileprune.configure())["data"].keys() == {"dataset", "members", "canaries", "redraw"}
    sized = lineage_of(mobileprune.configure(dataset="folder:photos", checkpoint=None, image_size=32))
    assert sized["data"]["image_size"] == 32


def test_the_configured_redraw_is_the_split_and_another_is_refused(store: Path, tmp_path: Path) -> None:
    first, second = (mobileprune.configure(members=60, redraw=redraw) for redraw in (None, 1))
    found = splits_of(second)
    assert found.sha256() == redrawn(splits_of(first), 0, 1).sha256() != splits_of(first).sha256()
    folder = mobileprune.train(tmp_path / "m", ctx=mobileprune.context(store), members=60, epochs=1, redraw=1)
    assert folder.info.config["data"]["redraw"] == 1
    assert splits_for(folder, mobileprune.configure(folder.path)).sha256() == found.sha256()
    with pytest.raises(DataError, match=r"seed 0, redraw 1\), which is not what"):
        splits_for(folder, first)


def test_a_path_is_never_taken_from_a_file() -> None:
    with pytest.raises(DataError, match=r"trained on xrays\.npz.*--dataset npz:PATH"):
        data_from_lineage(OWN, {"data_dir": "d"})
    assert data_from_lineage(OWN, {"dataset": "npz:here/xrays.npz"}) == DataConfig("npz:here/xrays.npz", None, 50, 0.2)


def test_whole_paths_lead_to_the_same_data_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"dataset": "npz:d/a.npz", "data_dir": "d", "budget": "b.toml", "checkpoint": "../w.pt"}
    found = with_whole_paths(mobileprune.configure(**own))
    assert (found.data.dataset, found.data.data_dir) == (f"npz:{tmp_path}/d/a.npz", f"{tmp_path}/d")
    assert (found.prune.budget, found.train.checkpoint) == (f"{tmp_path}/b.toml", f"{tmp_path.parent}/w.pt")
    plain = mobileprune.configure(dataset="mnist")
    assert with_whole_paths(plain) == plain


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_trained_on_and_asked_about_is_a_copy_of_the_rows_bit_for_bit(channels: int, last: bool) -> None:
    """As if all were copied at once, in torch's own order of bytes, which decides what kernels it takes."""
    raw = np.random.default_rng(0).integers(0, 256, (60, 5, 4, channels) if last else (60, channels, 5, 4), np.uint8)
    images = raw.transpose(0, 3, 1, 2) if last else raw
    splits, mean, std = split(Images("set", images, np.arange(60) % 2, ("a", "b")), seed=0), [0.3], [0.2]
    rows, batch = splits.members, torch.tensor([3, 0, 3, 11])
    floats = images[rows].astype(np.float32) / np.float32(255)
    assert pixels(splits, rows).shape == floats.shape
    assert pixels(splits, rows)[2:9].tobytes() == floats[2:9].tobytes()
    found = examples(splits, rows, mean * channels, std * channels)
    normalised = torch.from_numpy((floats - np.float32(0.3)) / np.float32(0.2)).clone(
        memory_format=torch.contiguous_format
    )
    assert torch.equal(found.inputs(batch), normalised[batch])
    assert found.inputs(batch).stride() == normalised[batch].stride()
    assert found.y.tolist() == splits.labels[rows].tolist()


def test_splits_of_several_seeds_share_their_images(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "set.npz",
        images=np.arange(60 * 9, dtype=np.uint16).view(np.uint8).reshape(60, 3, 6),
        labels=np.arange(60) % 2,
    )
    first, second = (
        splits_of(mobileprune.configure(dataset=f"npz:{tmp_path / 'set.npz'}", seed=seed)) for seed in (0, 1)
    )
    assert first.sha256() != second.sha256()
    assert first.images is second.images, "which may be many bytes on the disk"
