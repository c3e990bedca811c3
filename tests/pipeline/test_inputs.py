"""What a lineage may decide about the data, and what only the caller may."""

from __future__ import annotations

import pytest

from mobileprune.config import DataConfig
from mobileprune.errors import DataError
from mobileprune.pipeline.inputs import data_from_lineage

NAMED = {"dataset": "mnist", "members": 50, "canaries": 0.2, "seed": 1, "split_sha256": "0" * 64}
OWN = {**NAMED, "dataset": "npz:xrays.npz"}


def test_named_data_are_taken_from_the_lineage_and_their_place_from_the_caller() -> None:
    assert data_from_lineage(NAMED, {"sparsity": 0.5}) == DataConfig("mnist", None, 50, 0.2)
    assert data_from_lineage(NAMED, {"data_dir": "d"}) == DataConfig("mnist", "d", 50, 0.2)


def test_a_path_is_never_taken_from_a_file() -> None:
    with pytest.raises(DataError, match=r"trained on xrays\.npz.*--dataset npz:PATH"):
        data_from_lineage(OWN, {"data_dir": "d"})
    assert data_from_lineage(OWN, {"dataset": "npz:here/xrays.npz"}) == DataConfig("npz:here/xrays.npz", None, 50, 0.2)
