"""One place for randomness: every random draw comes from a named stream of one seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called ``names``; independent streams never share draws.

    >>> stream(0, "splits") == stream(0, "splits"), stream(0, "splits") == stream(1, "splits")
    (True, False)
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_rng(seed: int, *names: object) -> np.random.Generator:
    return np.random.default_rng(stream(seed, *names))


def torch_rng(seed: int, *names: object) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(stream(seed, *names))
