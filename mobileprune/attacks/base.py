"""What an attack is and what it sees: arrays of logits and labels, never the training model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError, DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Access = Literal["labels", "probabilities", "logits"]
ACCESS: tuple[Access, ...] = ("labels", "probabilities", "logits")
"""The access ladder, least first."""

LARGEST_LOGIT = 1e300
"""Beyond it the difference of two logits can overflow float64."""


@dataclass(frozen=True)
class Attack:
    """A membership score: ``score(logits (N, K), labels (N,)) -> (N,)`` float64, higher = member.

    ``access`` is the least access to the model with which the attack can be run.
    """

    name: str
    access: Access
    score: Callable[[Floats, Ints], Floats]
    source: str


@dataclass(frozen=True, eq=False)
class Outputs:
    """One model's logits on members (M, K) and non-members (N, K), float64; labels int64.

    ``*_groups`` (bool) is True for canaries. Raises ArtifactError for logits that are not finite or
    not of shape (examples, K >= 2), DataError for labels or groups that do not fit them.
    """

    members: Floats
    nonmembers: Floats
    member_labels: Ints
    nonmember_labels: Ints
    member_groups: Bools
    nonmember_groups: Bools

    def __post_init__(self) -> None:
        for side in ("member", "nonmember"):
            logits, labels = checked(getattr(self, f"{side}s"), getattr(self, f"{side}_labels"))
            groups = np.asarray(getattr(self, f"{side}_groups"))
            if groups.dtype != np.bool_ or groups.shape != labels.shape:
                raise DataError(
                    f"{side}_groups must be bool of shape {labels.shape}, got {groups.dtype} of shape {groups.shape}"
                )
            object.__setattr__(self, f"{side}s", logits)
            object.__setattr__(self, f"{side}_labels", labels)
            object.__setattr__(self, f"{side}_groups", groups)
        if self.members.shape[1] != self.nonmembers.shape[1]:
            raise ArtifactError(
                "members and non-members must have the same number of classes, "
                f"got {self.members.shape[1]} and {self.nonmembers.shape[1]}"
            )

    def subset(self, canary: bool) -> Outputs:
        """Only the canaries (True) or only the ordinary examples (False); order is kept."""
        inside, outside = self.member_groups == canary, self.nonmember_groups == canary
        return Outputs(
            members=self.members[inside],
            nonmembers=self.nonmembers[outside],
            member_labels=self.member_labels[inside],
            nonmember_labels=self.nonmember_labels[outside],
            member_groups=self.member_groups[inside],
            nonmember_groups=self.nonmember_groups[outside],
        )


def checked(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[Floats, Ints]:
    """The arrays as float64 (N, K) and int64 (N,), or ArtifactError / DataError in one line."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ArtifactError(f"logits must have shape (examples, classes >= 2), got {values.shape}")
    bad: Bools = ~np.all(np.abs(values) <= LARGEST_LOGIT, axis=1)
    if bad.any():
        raise ArtifactError(
            f"logits must be finite (magnitude <= {LARGEST_LOGIT:g}): {int(bad.sum())} of {len(bad)} examples are not, "
            f"the first at index {int(bad.argmax())}; re-export the model or query it in a wider number format"
        )
    found = np.asarray(labels)
    if found.shape != values.shape[:1] or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise DataError(f"labels must be integers of shape {values.shape[:1]}, got {found.dtype} of {found.shape}")
    wrong = (found < 0) | (found >= values.shape[1])
    if wrong.any():
        raise DataError(f"labels must lie in 0..{values.shape[1] - 1}, got {int(found[wrong][0])}")
    return values, found.astype(np.int64)


def log_probabilities(logits: Floats) -> tuple[Floats, Floats]:
    """log p and log(1 - p) of the softmax, both (N, K), accurate where p is next to 0 or to 1.

    With m the largest logit and s = sum of exp(z_j - m) over the others, log p_m = -log1p(s) and
    log(1 - p_m) = log s - log1p(s), where log s is a log-sum-exp of its own and so never underflows.
    Sums run over sorted terms: rows that are permutations of each other get equal values.
    """
    rows = np.arange(len(logits))
    top = logits.argmax(axis=1)
    ordered = np.sort(logits, axis=1)
    others, second = ordered[:, :-1], ordered[:, -2]
    log_s = second - ordered[:, -1] + np.log(np.exp(others - second[:, None]).sum(axis=1))
    log_norm = np.log1p(np.exp(log_s))
    log_p: Floats = logits - ordered[:, -1:] - log_norm[:, None]
    p = np.exp(log_p)
    p[rows, top] = 0.0  # replaced below; log1p(-p) is inaccurate next to p = 1
    log_not_p: Floats = np.log1p(-p)
    log_not_p[rows, top] = log_s - log_norm
    return log_p, log_not_p
