"""Parity: does the exported file, through its runtime, compute what the PyTorch model computes?

Hardened outputs may jump: logits that differ in the last digit can lie on two sides of a rounding step. Where that
can happen within the tolerance, the file may answer as on either side; it is not left unchecked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.convert.harden import Head
from mobileprune.errors import ParityError
from mobileprune.training import predict


def hardened_parity(
    exported: NDArray[np.float64], logits: NDArray[np.float64], head: Head | None, *, atol: float
) -> dict[str, Any]:
    """:func:`parity` of a file's outputs with the PyTorch model's ``logits`` (N, K) behind ``head``."""
    if head is None:
        return parity(exported, logits, atol=atol)

    def scores(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return predict(head, torch.from_numpy(z.astype(np.float32))).numpy().astype(np.float64)

    return parity(exported, scores(logits), atol=atol, nudged=map(scores, nudges(logits, atol)) if head.steps else ())


def nudges(logits: NDArray[np.float64], atol: float) -> Iterator[NDArray[np.float64]]:
    """``logits`` (N, K) moved by at most atol / 4.

    First rounded to two grids, one between the points of the other: classes that nearly tie then do. Then, for each
    bit of the class index, classes with the bit set up and the others down, and the reverse: every two classes are
    moved apart both ways in few steps.
    """
    classes, size = logits.shape[1], atol / 4
    if size:
        yield np.round(logits / size) * size
        yield (np.floor(logits / size) + 0.5) * size
    for bit in range((classes - 1).bit_length()):
        direction = np.where(np.arange(classes) >> bit & 1, size, -size)
        yield logits + direction
        yield logits - direction


def parity(
    exported: NDArray[np.float64],
    source: NDArray[np.float64],
    *,
    atol: float,
    nudged: Iterable[NDArray[np.float64]] = (),
) -> dict[str, Any]:
    """Compare outputs (N, K) on the same N inputs; ParityError when the largest difference exceeds ``atol``.

    ``nudged``: what the source gives for its logits after :func:`nudges`. A row that they move by more than
    3/4 ``atol``, where a smooth output moves by half, is *unstable*: each of its entries is compared with the nearest
    of ``source`` and ``nudged``. Any other row is compared with ``source`` alone.
    """
    if exported.shape != source.shape:
        raise ParityError(f"the exported model gives outputs of shape {exported.shape}, the source {source.shape}")
    if not len(source):
        raise ParityError("there are no inputs to compare on; give more --members")
    nearest, moved = source, np.zeros_like(source)
    for outputs in nudged:
        nearest = np.where(np.abs(exported - outputs) < np.abs(exported - nearest), outputs, nearest)
        moved = np.maximum(moved, np.abs(outputs - source))
    unstable = moved.max(axis=1, keepdims=True, initial=0.0) > 0.75 * atol
    difference = np.abs(exported - np.where(unstable, nearest, source))
    largest = float(difference.max(initial=0.0))
    if not largest <= atol:  # also catches NaN
        raise ParityError(
            f"the exported file differs from the PyTorch model by {largest:.3g} on {len(source)} real inputs, "
            f"more than --atol {atol:g}; nothing was written"
        )
    return {
        "inputs": len(source),
        "unstable": int(unstable.sum()),
        "max_difference": largest,
        "mean_difference": float(difference.mean()) if difference.size else 0.0,
        "top1_agreement": float((exported.argmax(1) == source.argmax(1)).mean()),
        "atol": atol,
    }
