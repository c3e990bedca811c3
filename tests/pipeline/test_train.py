"""Training as a step: what a record may say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch

import mobileprune
from mobileprune.errors import UsageError


def test_a_defence_of_weights_that_are_not_trained_is_refused(store: Path, tmp_path: Path) -> None:
    """It would be recorded, and never have happened."""
    ctx = mobileprune.context(store)
    weights = mobileprune.train(tmp_path / "a", ctx=ctx, members=60, epochs=1).restore().state_dict()
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    options = {"members": 60, "checkpoint": str(tmp_path / "w.safetensors")}
    with pytest.raises(UsageError, match="--train-defense has no effect on weights that come from --checkpoint"):
        mobileprune.train(tmp_path / "b", ctx=ctx, train_defense="minmax:1", **options)
    assert mobileprune.train(tmp_path / "b", ctx=ctx, **options).info.differential_privacy is None
