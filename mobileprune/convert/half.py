"""float16 values in a file: half of the bytes, widened once when it is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import MobilepruneError

SMALLEST = 64
"""Tensors of fewer numbers stay float32: they cost nothing, and scales and biases are among them."""
LARGEST = float(np.finfo(np.float16).max)


def halved(tensor: NDArray[Any]) -> NDArray[Any]:
    """``tensor`` as float16, itself below :data:`SMALLEST` numbers; MobilepruneError where one is too large for it."""
    if tensor.size < SMALLEST:
        return tensor
    if not (largest := float(np.abs(tensor).max())) <= LARGEST:
        raise MobilepruneError(
            f"--precision fp16: a tensor holds {largest:.3g}, float16 ends at {LARGEST:g}; use --precision fp32"
        )
    return tensor.astype(np.float16) + np.float16(0)  # -0 is 0
