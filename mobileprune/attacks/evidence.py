"""What an attacker has about some examples: a model's answers, and whatever else there is to hold them against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError, DataError
from mobileprune.lazy import Sliced

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Pixels = Sliced[np.uint8]

LARGEST_LOGIT = 1e300
"""Beyond it the difference of two logits can overflow float64."""


@dataclass(frozen=True, eq=False)
class Population:
    """P examples that nobody was trained on: the target's logits (P, K), labels (P,), pixels (P, C, H, W) or None."""

    logits: Floats
    labels: Ints
    images: Pixels | None = None

    def __post_init__(self) -> None:
        logits, labels = checked(self.logits, self.labels)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels)


@dataclass(frozen=True, eq=False)
class References:
    """R models that came about as the target did, each trained on about half of the examples.

    ``logits``: R arrays (N, K) on the examples, read one at a time. ``inside`` (R, N): which model was trained on
    which example. ``population``: R arrays (P, K) on the population. ``variants``: name -> R arrays (V, N, K) on the
    very copies that the target is asked about.
    """

    logits: Sequence[Floats]
    inside: Bools
    population: Sequence[Floats]
    variants: Mapping[str, Sequence[Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.logits) == len(self.inside) == len(self.population):
            raise DataError(
                f"references: {len(self.logits)} models' logits, {len(self.inside)} rows of membership, "
                f"{len(self.population)} models' logits on the population; there must be one of each for every model"
            )
        for name, answers in self.variants.items():
            if len(answers) != len(self.logits):
                raise DataError(
                    f"references: {len(answers)} models' answers on {name} copies; there must be one array for each of "
                    f"the {len(self.logits)} models"
                )
        if self.inside.dtype != np.bool_ or self.inside.ndim != 2:
            raise DataError(f"references: membership must be bool (R, N), got {self.inside.dtype} {self.inside.shape}")

    def __len__(self) -> int:
        return len(self.logits)

    def statistic(self, compute: Callable[[Floats, Ints], Floats], labels: Ints) -> Floats:
        """``compute(logits (N, K), labels (N,)) -> (N,)`` of every model: (R, N). Only one model's logits at a time."""
        return np.stack([compute(*checked(logits, labels)) for logits in self.logits])

    def population_statistic(self, compute: Callable[[Floats, Ints], Floats], labels: Ints) -> Floats:
        """Likewise on the population, whose labels are ``labels``: (R, P)."""
        return np.stack([compute(*checked(logits, labels)) for logits in self.population])

    def seen(self, index: int, labels: Ints, chosen: Ints, variants: Sequence[str] = ()) -> Evidence:
        """What there is of one model on the examples ``chosen`` (M,): its answers, and those on copies of these kinds.

        Raises DataError for copies of other examples or classes than the model's logits.
        """
        logits, found = checked(self.logits[index], labels)
        copies = {name: self.variants[name][index] for name in variants}
        for name, answers in copies.items():
            if answers.shape[1:] != logits.shape:
                raise DataError(
                    f"references: model {index} has answers of shape {answers.shape} on {name} copies; "
                    f"with logits of shape {logits.shape} it must be (copies, {logits.shape[0]}, {logits.shape[1]})"
                )
        return Evidence(logits[chosen], found[chosen], variants={name: a[:, chosen] for name, a in copies.items()})


@dataclass(frozen=True, eq=False)
class Evidence:
    """N examples: the model's logits (N, K) float64 and labels (N,) int64; what is None or empty was not asked for.

    ``images`` (N, C, H, W) uint8. ``variants``: name -> logits (V, N, K) on V changed copies of each image.
    ``versions``: logits (V, N, K) of other files of the same model. ``gradients`` (N, 2 F): norms of the loss's
    gradient by each layer's weights that are not zero, then by its zeros, read back from the file.
    Raises ArtifactError for logits that are not finite or not of shape (N, K >= 2), DataError for labels that do not
    fit them or other arrays of another N.
    """

    logits: Floats
    labels: Ints
    references: References | None = None
    population: Population | None = None
    images: Pixels | None = None
    variants: Mapping[str, Floats] = field(default_factory=dict)
    versions: Floats | None = None
    gradients: Floats | None = None

    def __post_init__(self) -> None:
        logits, labels = checked(self.logits, self.labels)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels)
        lengths = {f"variants {name}": v.shape[1] for name, v in self.variants.items()}
        lengths |= {name: v.shape[axis] for name, axis in _AXES.items() if (v := getattr(self, name)) is not None}
        if self.references is not None:
            lengths["references"] = self.references.inside.shape[1]
        for name, length in lengths.items():
            if length != len(labels):
                raise DataError(f"{name}: {length} examples, but there are {len(labels)} answers of the target")

    def __len__(self) -> int:
        return len(self.labels)

    def has(self, name: str) -> bool:
        """Whether the field, or the variant, ``name`` is there."""
        return name in self.variants or (name in _OPTIONAL and getattr(self, name) is not None)


_AXES = {"images": 0, "versions": 1, "gradients": 0}
_OPTIONAL = ("references", "population", *_AXES)


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
