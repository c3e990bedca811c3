"""Named streams: stable over processes and versions (published splits depend on it), and apart from each other."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.seeding import numpy_rng, stream, torch_rng


def test_streams_never_change() -> None:
    assert stream(0, "splits") == 5_269_463_692_941_953_712
    assert numpy_rng(0, "splits").integers(0, 1000, 4).tolist() == [238, 717, 478, 138]
    assert torch.randperm(6, generator=torch_rng(0, "training", 0)).tolist() == [2, 4, 1, 3, 5, 0]


@settings(max_examples=50)
@given(st.integers(0, 2**70), st.integers(0, 99), st.text(max_size=5))
def test_another_seed_stage_or_epoch_is_another_stream(seed: int, epoch: int, name: str) -> None:
    seeds = {stream(seed, name, epoch), stream(seed + 1, name, epoch), stream(seed, name + "x", epoch)}
    seeds |= {stream(seed, name, epoch + 1), stream(seed, name, epoch, "layers")}
    assert len(seeds) == 5
    assert all(0 <= value < 2**63 for value in seeds)
