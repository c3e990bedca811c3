"""Attacks by whoever has several files of the same model: dense and pruned, or in several precisions.

``evidence.versions`` (V, N, K): logits of the other files. Reconstructions: CompLeak (arXiv 2507.16872; its full text
was not available to us) trains a classifier on the joint outputs of several versions; these two scores use the same
outputs and need no training. With phi the logit-scaled confidence of LiRA.
"""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, logit_confidence
from mobileprune.attacks.evidence import Evidence, Floats, checked
from mobileprune.errors import DataError


def _confidences(evidence: Evidence) -> Floats:
    """phi by every file, the target's first, one at a time: (1 + V, N)."""
    if evidence.versions is None:
        raise DataError("this attack needs answers of other files of the model, and the evidence has none")
    files = [evidence.logits, *evidence.versions]
    return np.stack([logit_confidence(*checked(logits, evidence.labels)) for logits in files])


def version_sum(evidence: Evidence) -> Floats:
    """sum_v phi_v over all files: each is a noisy reading of the same memory.

    The likelihood-ratio test if the phi of members and of non-members are Gaussians with the same variance in all files
    and independent noise.
    """
    total: Floats = _confidences(evidence).sum(axis=0)
    return total


def version_gap(evidence: Evidence) -> Floats:
    """phi_s - mean_{v != s} phi_v, s being the file with the largest mean phi of all examples (the least compressed).

    What was learnt by heart is what compression loses: a member falls from a height that a non-member never had, and
    how hard the image is cancels, the files being each other's reference. Which of them is the target is no matter.
    """
    phi = _confidences(evidence)
    surest = int(phi.sum(axis=1).argmax())
    gap: Floats = phi[surest] - np.delete(phi, surest, axis=0).mean(axis=0)
    return gap


def _without_versions(evidence: Evidence) -> str | None:
    versions = np.asarray(evidence.versions)
    if versions.ndim == 3 and len(versions) and versions.shape[2] == evidence.logits.shape[1]:
        return None
    return f"needs logits (V >= 1, N, {evidence.logits.shape[1]}) of other files, got shape {versions.shape}"


VERSION_SUM = Attack(
    "version_sum",
    "logits",
    version_sum,
    "reconstruction of CompLeak MR, arXiv 2507.16872",
    ("versions",),
    _without_versions,
)
VERSION_GAP = Attack(
    "version_gap",
    "logits",
    version_gap,
    "reconstruction of CompLeak SR, arXiv 2507.16872",
    ("versions",),
    _without_versions,
)
