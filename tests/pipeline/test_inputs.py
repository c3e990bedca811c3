"""What a lineage may decide about the data, and what only the caller may."""

from __future__ import annotations

from pathlib import Path

import pytest

import mobileprune
from mobileprune.config import DataConfig
from mobileprune.data.splits import redrawn
from mobileprune.errors import DataError
from mobileprune.pipeline.inputs import data_from_lineage, splits_for, splits_of, with_whole_paths

NAMED = {"dataset": "mnist", "members": 50, "canaries": 0.2, "seed": 1, "split_sha256": "0" * 64}
OWN = {**NAMED, "dataset": "npz:xrays.npz"}


def test_named_data_are_taken_from_the_lineage_and_their_place_from_the_caller() -> None:
    assert data_from_lineage(NAMED, {"sparsity": 0.5}) == DataConfig("mnist", None, 50, 0.2)
    assert data_from_lineage(NAMED, {"data_dir": "d"}) == DataConfig("mnist", "d", 50, 0.2)


def test_a_redraw_is_taken_from_the_lineage_which_may_be_older_than_redraws() -> None:
    assert data_from_lineage({**NAMED, "redraw": 3}, {"data_dir": "d"}) == DataConfig("mnist", "d", 50, 0.2, redraw=3)
    assert data_from_lineage({**NAMED, "redraw": None}, {}) == data_from_lineage(NAMED, {})


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
