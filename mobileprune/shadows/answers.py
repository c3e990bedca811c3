"""What reference models answered, read from the run store as it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mobileprune.tensors import load

Floats = NDArray[np.float64]


def file_of(name: str, part: str) -> str:
    return f"{name}-{part}.safetensors"


@dataclass(frozen=True)
class Stored(Sequence[Floats]):
    """Arrays that are read from disk one at a time."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Floats: ...
    @overload
    def __getitem__(self, index: slice) -> Stored: ...
    def __getitem__(self, index: int | slice) -> Floats | Stored:
        if isinstance(index, slice):
            return Stored(self.files[index])
        logits: Floats = load(self.files[index])[0]["logits"].numpy()
        return logits


@dataclass(frozen=True)
class Answers:
    """Logits of R models, float64: R arrays (N, K) on the examples, (P, K) on the test images and, for each kind of
    changed copies that was asked about, (V, N, K) on V copies of the examples."""

    examples: Stored
    test: Stored
    variants: Mapping[str, Stored]


@dataclass(frozen=True, eq=False)
class Shadows:
    """R reference models, asked about the target's N examples (members, then held-out) and P test images, in its order.

    ``inside`` (R, N): which model was trained on which example. ``answers``: of each model's exported file
    ("artifact"), of its PyTorch source ("source") and, where the target was pruned, of the model before pruning,
    exported as the dense baseline is ("dense").
    """

    inside: NDArray[np.bool_]
    answers: Mapping[str, Answers]
