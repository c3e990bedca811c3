"""Changed copies of the images, for the attacks that ask several times: ``VARIANTS``.

A maker takes pixels (N, C, H, W) uint8 and a random stream for each of V copies, and yields V arrays (N, C, H, W)
float32 in [0, 1], one at a time, so that memory holds one. It changes pixels only; :func:`answers` asks a model. A copy
depends on its index, never on V, so that V copies are the first V of any larger number. Images that are given some at
a time, with the same streams, are changed as all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.attacks.evidence import Floats, Pixels
from mobileprune.errors import DataError, UsageError
from mobileprune.files import sha256
from mobileprune.lazy import slices
from mobileprune.seeding import numpy_rng

Images = NDArray[np.float32]
Raw = NDArray[np.uint8]
Streams = Sequence[np.random.Generator]
Maker = Callable[[Raw, Streams], Iterator[Images]]

CHUNK_BYTES, BATCH = 2**26, 512
"""Of copies at a time, as float32, and the images that they are at least. A multiple of the batches of all runtimes, so
that batches, on which last digits may depend, are those of all at once."""
SEED = 0
"""Of all copies that a model is asked about: the target and its references are asked about the same ones."""
INPUT_STEP = 1 / 255
"""One step of an int8 input that spans [0, 1]; what is smaller is rounded away before the model sees it."""
NOISE_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Standard deviations of the noise, in units of the full range of a pixel."""
FURTHEST = 2
DEGREES_PER_PIXEL = 4.0


def _moves() -> list[tuple[bool, int, int, float]]:
    """(flip, down, right, degrees): by growing distance |down| + |right|, first as it is, then flipped."""
    steps = list(product(range(-FURTHEST, FURTHEST + 1), repeat=2))
    changes = []
    for distance in range(1, 2 * FURTHEST + 1):
        changes += [(down, right, 0.0) for down, right in steps if abs(down) + abs(right) == distance]
        changes += [(0, 0, sign * distance * DEGREES_PER_PIXEL) for sign in (1, -1)]
    return [(False, 0, 0, 0.0), (True, 0, 0, 0.0), *((flip, *c) for flip in (False, True) for c in changes)]


MOVES = _moves()


def augmented(pixels: Raw, streams: Streams) -> Iterator[Images]:
    """The image; its mirror image; shifts by up to 2 pixels each way and rotations by 4 to 16 degrees, smallest first;
    the same of the mirror image. Edges are continued outwards, rotations are bilinear. Nothing is random.

    Choquette-Choo et al., arXiv 2007.14321. Raises UsageError for more copies than there are moves.
    """
    if len(streams) > len(MOVES):
        raise UsageError(f"there are {len(MOVES)} augmented copies of an image, got {len(streams)}; ask for fewer")
    plain = _unit(pixels)
    for flip, down, right, degrees in MOVES[: len(streams)]:
        moved = plain[..., ::-1] if flip else plain
        yield np.ascontiguousarray(_rotated(moved, degrees) if degrees else _shifted(moved, down, right))


def noisy(pixels: Raw, streams: Streams) -> Iterator[Images]:
    """x + sigma * n with n standard normal, clipped to [0, 1]; sigma of copy i is :func:`noise_level` (i).

    Choquette-Choo et al., arXiv 2007.14321.
    """
    plain = _unit(pixels)
    for index, stream in enumerate(streams):
        noise = stream.standard_normal(plain.shape, dtype=np.float32)
        yield _added(plain, noise, noise_level(index))


def noise_level(index: int) -> float:
    """Standard deviation of the noise of copy ``index``: the levels in growing order, again and again."""
    return NOISE_LEVELS[index % len(NOISE_LEVELS)]


def nearby(pixels: Raw, streams: Streams, *, epsilon: float = INPUT_STEP) -> Iterator[Images]:
    """x + epsilon * u with every entry of u uniform in [-1, 1], clipped to [0, 1].

    Not of unit norm: spread over all pixels that would be far below one step of an int8 input.
    Yuan & Zhang, arXiv 2202.03335. Raises UsageError for an epsilon below one step.
    """
    if epsilon < INPUT_STEP:
        raise UsageError(f"epsilon must be at least one step of the input, 1/255, got {epsilon:g}")
    plain = _unit(pixels)
    for stream in streams:
        draw = stream.random(plain.shape, dtype=np.float32)
        yield _added(plain, draw * 2 - 1, epsilon)


VARIANTS: dict[str, Maker] = {"augmented": augmented, "noisy": noisy, "nearby": nearby}


def answers(predict: Callable[[Images], NDArray[Any]], kind: str, pixels: Pixels, count: int) -> Floats:
    """Logits (V, N, K) of ``predict: (N, C, H, W) -> (N, K)`` on ``count`` copies of the kind ``kind``."""
    found, size = streams(kind, count, SEED), max(1, CHUNK_BYTES // (4 * math.prod(pixels.shape[1:]) * BATCH)) * BATCH
    parts = (VARIANTS[kind](pixels[part], found) for part in slices(len(pixels), size))
    return np.concatenate([np.stack([predict(copy) for copy in part], dtype=np.float64) for part in parts], axis=1)


def streams(kind: str, count: int, seed: int) -> list[np.random.Generator]:
    """That of each of ``count`` copies."""
    return [numpy_rng(seed, "queries", kind, index) for index in range(count)]


def code() -> str:
    """SHA-256 of this module: it judges, so that keys of the run store do not have it by themselves."""
    return sha256(Path(__file__))


def _unit(pixels: Raw) -> Images:
    """(N, C, H, W) float32 in [0, 1], as the model is asked about the image itself."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError(f"images must be uint8 of shape (N, C, H, W), got {pixels.dtype} of {pixels.shape}")
    return pixels.astype(np.float32) / np.float32(255)


def _added(plain: Images, change: Images, scale: float) -> Images:
    change *= np.float32(scale)
    change += plain
    return np.clip(change, 0, 1, out=change)


def _shifted(images: Images, down: int, right: int) -> Images:
    height, width = images.shape[2:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[:, :, rows[:, None], columns]


def _rotated(images: Images, degrees: float) -> Images:
    """Counter-clockwise about the centre; bilinear means are taken in float64, so that none leaves [0, 1]."""
    from scipy.ndimage import rotate

    turned: Images = rotate(images, degrees, axes=(3, 2), reshape=False, order=1, mode="nearest")
    return turned
