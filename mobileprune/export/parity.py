"""Parity: does the exported file, through its runtime, compute what the PyTorch model computes?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ParityError


def parity(exported: NDArray[np.float64], source: NDArray[np.float64], *, atol: float) -> dict[str, Any]:
    """Compare logits (N, K) on the same N inputs; ParityError when max |difference| exceeds ``atol``."""
    if exported.shape != source.shape:
        raise ParityError(f"the exported model gives outputs of shape {exported.shape}, the source {source.shape}")
    if not len(source):
        raise ParityError("there are no inputs to compare on; give more --members")
    difference = np.abs(exported - source)
    largest = float(difference.max(initial=0.0))
    if not largest <= atol:  # also catches NaN
        raise ParityError(
            f"the exported file differs from the PyTorch model by {largest:.3g} on {len(source)} real inputs, "
            f"more than --atol {atol:g}; nothing was written"
        )
    return {
        "inputs": len(source),
        "max_difference": largest,
        "mean_difference": float(difference.mean()) if difference.size else 0.0,
        "top1_agreement": float((exported.argmax(1) == source.argmax(1)).mean()),
        "atol": atol,
    }
