"""Members, held-out, reference and test sets from one seed, and the canaries among them.

Members and held-out examples are drawn in *pairs*: the pool is shuffled, its examples are paired, and
a fair coin decides for each pair which one is trained on. Both sets so have the same size and
distribution, each example is a member with probability 1/2, and the coins of different pairs are
independent, which is what one-run auditing needs (Steinke et al., arXiv 2305.08846): position i of
``members`` and of ``held_out`` are one pair.

Canaries are pairs whose two labels were replaced by a wrong one before the coin was thrown. A model
can only know such a label by having memorised it, so they bound what it remembers of rare examples.

Where the data state who is a member (``Images.member``), both sets are drawn from the stated ones instead,
without coins and so without canaries.

A *redraw* throws new coins for the same pairs: the data of a reference model (LiRA, arXiv 2112.03570, section IV).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileprune.config import MOST_TEST
from mobileprune.data.images import Images
from mobileprune.errors import DataError
from mobileprune.files import digest
from mobileprune.seeding import numpy_rng

Indices = NDArray[np.int64]
MIN_PAIRS = 20  # fewer say nothing about membership
MOST_MEMBERS = 5_000  # by default: enough to resolve a TPR at 0.1 % FPR


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

    @property
    def membership(self) -> Literal["drawn", "stated"]:
        """Whether the split decided who is a member, or the data did."""
        return "drawn" if self.images.member is None else "stated"

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

    def described(self) -> dict[str, Any]:
        """As results name the data."""
        return {
            "name": self.images.name,
            "split_sha256": self.sha256(),
            "membership": self.membership,
            "counts": self.counts(),
        }


def default_canaries(dataset: str) -> float:
    """A tenth for the named research sets; none for ``folder:`` and ``npz:``, whose models are made to be shipped."""
    return 0.0 if ":" in dataset else 0.1


def split(images: Images, *, seed: int, members: int | None = None, canaries: float = 0.1) -> Splits:
    """Split ``images`` into ``members``, as many held-out, at most as many for reference, and test images.

    ``members`` defaults to a third of the images, at most 5,000. Exact duplicates are dropped first: an
    image that is both member and held-out has no membership (where stated, it is a member).
    """
    rng = numpy_rng(seed, "splits")
    if images.member is not None:
        return _stated(images, images.member, rng, members, canaries)
    pool = rng.permutation(_distinct(images, np.arange(len(images.labels))))
    wanted = _wanted(images.name, members, default=len(pool) // 3, most=(len(pool) - 2) // 2)
    pairs = pool[: 2 * wanted].reshape(wanted, 2)
    rest = pool[2 * wanted :]
    coin = rng.integers(0, 2, size=wanted)
    chosen = np.arange(wanted)
    canary = np.zeros(len(images.labels), dtype=np.bool_)
    canary[pairs[: round(canaries * wanted)]] = True
    labels = images.labels.copy()
    offsets = rng.integers(1, len(images.classes), size=len(labels))
    labels[canary] = (labels[canary] + offsets[canary]) % len(images.classes)
    held_out, (reference, test) = pairs[chosen, 1 - coin], _divided(rest, wanted)
    return Splits(images, labels, pairs[chosen, coin], held_out, reference, test, canary)


def redrawn(splits: Splits, seed: int, redraw: int) -> Splits:
    """The same pairs, labels, canaries, reference and test images, with members chosen by other coins.

    Redraws 2j and 2j + 1 are each other's complement: all pairs of them together hold every example in exactly half.
    The coins do not depend on who is a member in ``splits``. What data stated of membership no longer holds.
    """
    pairs = np.sort(np.stack([splits.members, splits.held_out], axis=1), axis=1)
    coin = numpy_rng(seed, "redraw", redraw // 2).integers(0, 2, size=len(pairs)) ^ (redraw % 2)
    chosen, images = np.arange(len(pairs)), replace(splits.images, member=None)
    return replace(splits, images=images, members=pairs[chosen, coin], held_out=pairs[chosen, 1 - coin])


def _stated(
    images: Images, member: NDArray[np.bool_], rng: np.random.Generator, members: int | None, canaries: float
) -> Splits:
    if canaries:
        raise DataError(
            f"{images.name} states who is a member, so no canaries can be planted; "
            f"give --canaries 0 instead of {canaries:g}"
        )
    distinct = _distinct(images, np.argsort(~member, kind="stable"))  # of duplicates the member stays
    inside, outside = (rng.permutation(distinct[member[distinct] == side]) for side in (True, False))
    most = min(len(inside), len(outside) - 2)
    wanted = _wanted(images.name, members, default=min(most, 2 * len(outside) // 3), most=most)
    rest = outside[wanted:]
    held_out, (reference, test) = outside[:wanted], _divided(rest, wanted)
    return Splits(images, images.labels, inside[:wanted], held_out, reference, test, np.zeros(len(member), np.bool_))


def _divided(rest: Indices, members: int) -> tuple[Indices, Indices]:
    """Reference and test. A reference set larger than the members' would be the better training set of the two."""
    count = min(len(rest) // 2, members)
    return rest[:count], rest[count:][:MOST_TEST]


def _distinct(images: Images, order: Indices) -> Indices:
    """The first of equal images in ``order``, sorted."""
    digests = (hashlib.sha256(images.pixels[i].tobytes()).digest() for i in order.tolist())
    _, first = np.unique(np.fromiter(digests, "S32", len(order)), return_index=True)
    return np.sort(order[first])


def _wanted(name: str, members: int | None, *, default: int, most: int) -> int:
    wanted = min(MOST_MEMBERS, default) if members is None else members
    if most < MIN_PAIRS:
        raise DataError(
            f"{name}: too few distinct images: there must be at least {MIN_PAIRS} members, as many non-members, "
            "and 2 more for reference and test"
        )
    if not MIN_PAIRS <= wanted <= most:
        raise DataError(
            f"{name}: {wanted} members and as many held-out examples, with some left for reference and test, "
            f"do not fit its distinct images; --members must lie between {MIN_PAIRS} and {most}"
        )
    return wanted
