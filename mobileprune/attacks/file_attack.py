"""Attacks by whoever holds the file: members lie where the loss is flat, as training went on until it was.

``evidence.gradients`` (N, 2 F): norms of the cross-entropy's gradient by each of F weight tensors, first by those of
its weights that are not zero, then by its zeros (``mobileprune.runtimes.gradients.gradient_norms``).
"""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Evidence, Floats

SMALLEST = float(np.finfo(np.float64).tiny)
"""In the place of a norm of 0, whose logarithm has to be finite."""


def _parts(evidence: Evidence) -> tuple[Floats, Floats]:
    """Norms by the weights that are left and by the zeros, both (N, F)."""
    norms = np.asarray(evidence.gradients, np.float64)
    layers = norms.shape[1] // 2
    return norms[:, :layers], norms[:, layers:]


def _log(norms: Floats) -> Floats:
    found: Floats = np.log(np.maximum(norms, SMALLEST))
    return found


def _total(norms: Floats) -> Floats:
    """sqrt(sum_f g_f^2) without overflow."""
    largest = norms.max(axis=1, initial=SMALLEST)
    total: Floats = largest * np.linalg.norm(norms / largest[:, None], axis=1)
    return total


def gradient_norm(evidence: Evidence) -> Floats:
    """-log sqrt(sum_f g_f^2) over the weights that are left: the length of the step that training would still take."""
    return -_log(_total(_parts(evidence)[0]))


def gradient_profile(evidence: Evidence) -> Floats:
    """-sum_f log g_f over the weights that are left: every layer counts alike, however many weights it has. Ours."""
    total: Floats = -_log(_parts(evidence)[0]).sum(axis=1)
    return total


def mask_gradient(evidence: Evidence) -> Floats:
    """log(norm by the zeros / norm by the weights that are left); the mask is read off the file's zeros. Ours.

    Retraining under a mask flattens a member's loss in the directions that the mask leaves and in no other; of a
    non-member both gradients are as steep as the image is hard.
    """
    left, zeros = _parts(evidence)
    ratio: Floats = _log(_total(zeros)) - _log(_total(left))
    return ratio


def _malformed(evidence: Evidence) -> str | None:
    norms = np.asarray(evidence.gradients)
    if norms.ndim == 2 and norms.shape[1] and norms.shape[1] % 2 == 0 and bool((norms >= 0).all()):
        return None
    return f"needs gradient norms >= 0 of shape (N, 2 F), got shape {norms.shape}"


def _without_mask(evidence: Evidence) -> str | None:
    if reason := _malformed(evidence):
        return reason
    if len(evidence) and not _parts(evidence)[1].any():
        return "needs a file with zeros among its weights; this one has none, or no gradient reaches them"
    return None


GRADIENT_NORM = Attack(
    "gradient_norm",
    "file",
    gradient_norm,
    "Rezaei & Liu, arXiv 2005.13702; Nasr et al., arXiv 1812.00910, section II",
    ("gradients",),
    _malformed,
)
GRADIENT_PROFILE = Attack(
    "gradient_profile",
    "file",
    gradient_profile,
    "ours, of the layers' gradients in Nasr et al., arXiv 1812.00910",
    ("gradients",),
    _malformed,
)
MASK_GRADIENT = Attack("mask_gradient", "file", mask_gradient, "ours", ("gradients",), _without_mask)
