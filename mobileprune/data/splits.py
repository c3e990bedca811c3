"""Members, held-out, reference and test sets from one seed, and the canaries among them.

Members and held-out examples are drawn in *pairs*: the pool is shuffled, its examples are paired, and
a fair coin decides for each pair which one is trained on. Both sets so have the same size and
distribution, each example is a member with probability 1/2, and the coins of different pairs are
independent, which is what one-run auditing needs (Steinke et al., arXiv 2305.08846): position i of
``members`` and of ``held_out`` are one pair.

Canaries are pairs whose two labels were replaced by a wrong one before the coin was thrown. A model
can only know such a label by having memorised it, so they bound what it remembers of rare examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.data.images import Images
from mobileprune.errors import DataError
from mobileprune.files import digest
from mobileprune.seeding import numpy_rng

Indices = NDArray[np.int64]
MIN_PAIRS = 20  # fewer say nothing about membership


@dataclass(frozen=True)
class Splits:
    """Indices into ``images``; ``labels`` (N,) are the labels to train and attack with, canaries included."""

    images: Images
    labels: NDArray[np.int64]
    members: Indices
    held_out: Indices
    reference: Indices
    test: Indices
    canary: NDArray[np.bool_]  # (N,) True where the label is wrong on purpose

    def sha256(self) -> str:
        """Names the data, the split and the canaries; recorded in every artifact."""
        parts = {name: getattr(self, name).tolist() for name in ("members", "held_out", "reference", "test")}
        return digest({"images": self.images.sha256(), "labels": self.labels.tolist(), **parts})

    def counts(self) -> dict[str, Any]:
        return {
            "members": len(self.members),
            "held_out": len(self.held_out),
            "canary_members": int(self.canary[self.members].sum()),
            "canary_held_out": int(self.canary[self.held_out].sum()),
            "reference": len(self.reference),
            "test": len(self.test),
        }


def default_members(total: int) -> int:
    """A third of the images each for members and held-out, at most 5,000: the rest is reference and test."""
    return min(5_000, total // 3)


def split(images: Images, *, seed: int, members: int | None = None, canaries: float = 0.1) -> Splits:
    """Split ``images``; the remainder after members and held-out is halved into reference and test.

    Exact duplicates are dropped first: an image that is both member and held-out has no membership.
    """
    rng = numpy_rng(seed, "splits")
    first = {image.tobytes(): i for i, image in reversed(list(enumerate(images.pixels)))}
    pool = rng.permutation(np.array(sorted(first.values()), dtype=np.int64))
    wanted = default_members(len(pool)) if members is None else members
    if wanted < MIN_PAIRS or 2 * wanted + 2 > len(pool):
        raise DataError(
            f"{images.name}: {wanted} members and as many held-out examples do not fit {len(pool)} distinct images; "
            f"--members must lie between {MIN_PAIRS} and {(len(pool) - 2) // 2}"
        )
    pairs = pool[: 2 * wanted].reshape(wanted, 2)
    rest = pool[2 * wanted :]
    coin = rng.integers(0, 2, size=wanted)
    chosen = np.arange(wanted)
    canary = np.zeros(len(images.labels), dtype=np.bool_)
    canary[pairs[: round(canaries * wanted)]] = True
    labels = images.labels.copy()
    offsets = rng.integers(1, max(2, len(images.classes)), size=len(labels))
    labels[canary] = (labels[canary] + offsets[canary]) % len(images.classes)
    return Splits(
        images=images,
        labels=labels,
        members=pairs[chosen, coin],
        held_out=pairs[chosen, 1 - coin],
        reference=rest[: len(rest) // 2],
        test=rest[len(rest) // 2 :],
        canary=canary,
    )
