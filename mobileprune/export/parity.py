"""Parity: does the exported file, through its runtime, compute what the PyTorch model computes?

In float32 the outputs (N, K) have to be the same: |exported - source| <= atol + rtol max_k |source_k| in every row.
With fewer bits they cannot be; then the share of inputs with the same winner has to be large enough.

Hardened outputs may jump: logits that differ in the last digit can lie on two sides of a rounding step. Where that
can happen within the tolerance, the file may answer as on either side; it is not left unchecked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.convert.harden import Head
from mobileprune.errors import ParityError
from mobileprune.training import predict


@dataclass(frozen=True)
class Tolerances:
    """``min_agreement`` None: outputs have to agree within the tolerances; else only the winners, in that share."""

    atol: float = 1e-4
    rtol: float = 1e-4
    min_agreement: float | None = None


def hardened_parity(
    exported: NDArray[np.float64], logits: NDArray[np.float64], head: Head | None, allowed: Tolerances
) -> dict[str, Any]:
    """:func:`parity` of a file's outputs with the PyTorch model's ``logits`` (N, K) behind ``head``."""
    if head is None:
        return parity(exported, logits, allowed)

    def scores(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return predict(head, torch.from_numpy(z.astype(np.float32))).numpy().astype(np.float64)

    jumps = head.steps and allowed.min_agreement is None
    nudged = map(scores, nudges(logits, _tolerance(logits, allowed))) if jumps else ()
    return parity(exported, scores(logits), allowed, nudged=nudged)


def _tolerance(source: NDArray[np.float64], allowed: Tolerances) -> NDArray[np.float64]:
    """(N, 1), by the largest output of each row: small ones come of the same sums."""
    largest: NDArray[np.float64] = np.abs(source).max(axis=1, keepdims=True, initial=0.0)
    return allowed.atol + allowed.rtol * largest


def nudges(logits: NDArray[np.float64], tolerance: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """``logits`` (N, K) moved by at most a quarter of the ``tolerance`` (N, 1) of their row.

    First rounded to two grids, one between the points of the other: classes that nearly tie then do. Then, for each
    bit of the class index, classes with the bit set up and the others down, and the reverse: every two classes are
    moved apart both ways in few steps.
    """
    classes, size = logits.shape[1], tolerance / 4
    if (size > 0).all():
        yield np.round(logits / size) * size
        yield (np.floor(logits / size) + 0.5) * size
    for bit in range((classes - 1).bit_length()):
        direction = np.where(np.arange(classes) >> bit & 1, size, -size)
        yield logits + direction
        yield logits - direction


def parity(
    exported: NDArray[np.float64],
    source: NDArray[np.float64],
    allowed: Tolerances,
    *,
    nudged: Iterable[NDArray[np.float64]] = (),
) -> dict[str, Any]:
    """Compare outputs (N, K) on the same N inputs; ParityError when they differ by more than is ``allowed``.

    ``nudged``: what the source gives for its logits after :func:`nudges`. A row that they move by more than
    3/4 of its tolerance, where a smooth output moves by half, is *unstable*: each of its entries is compared with the
    nearest of ``source`` and ``nudged``. Any other row is compared with ``source`` alone.
    """
    if exported.shape != source.shape:
        raise ParityError(f"the exported model gives outputs of shape {exported.shape}, the source {source.shape}")
    if not len(source):
        raise ParityError("there are no inputs to compare on; give more --members")
    tolerance = _tolerance(source, allowed)
    nearest, moved = source, np.zeros_like(source)
    for outputs in nudged:
        nearest = np.where(np.abs(exported - outputs) < np.abs(exported - nearest), outputs, nearest)
        moved = np.maximum(moved, np.abs(outputs - source))
    unstable = moved.max(axis=1, keepdims=True, initial=0.0) > 0.75 * tolerance
    difference = np.abs(exported - np.where(unstable, nearest, source))
    agreement = float((exported.argmax(1) == source.argmax(1)).mean())
    _judge(difference, tolerance, agreement, allowed)
    exact = allowed.min_agreement is None
    return {
        "inputs": len(source),
        "unstable": int(unstable.sum()),
        "max_difference": float(difference.max(initial=0.0)),
        "mean_difference": float(difference.mean()) if difference.size else 0.0,
        "top1_agreement": agreement,
        "atol": allowed.atol if exact else None,
        "rtol": allowed.rtol if exact else None,
        "min_agreement": allowed.min_agreement,
    }


def _judge(
    difference: NDArray[np.float64], tolerance: NDArray[np.float64], agreement: float, allowed: Tolerances
) -> None:
    if allowed.min_agreement is not None:
        if not np.isfinite(difference).all():
            raise ParityError("the exported file gives NaN or infinity where the PyTorch model does not; use fp32")
        if not agreement >= allowed.min_agreement:
            raise ParityError(
                f"the exported file and the PyTorch model choose the same class for {agreement:.1%} of "
                f"{len(difference)} inputs, fewer than --min-agreement {allowed.min_agreement:g}; "
                "nothing was written: choose a higher --precision, or a lower --min-agreement if that is enough"
            )
    elif not (difference <= tolerance).all():  # also catches NaN
        raise ParityError(
            f"the exported file differs from the PyTorch model by {difference.max():.3g} on {len(difference)} inputs, "
            f"more than --atol {allowed.atol:g} and --rtol {allowed.rtol:g} allow; nothing was written"
        )
