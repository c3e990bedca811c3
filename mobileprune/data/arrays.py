"""The user's own images in an ``.npz`` file: it can be larger than memory, and state who is a member as folders do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune.bounds import MOST_CLASSES
from mobileprune.data.folder import readable
from mobileprune.data.images import Images
from mobileprune.data.npz import Member, members
from mobileprune.data.on_disk import on_disk
from mobileprune.errors import DataError
from mobileprune.lazy import slices

MOST_NAME_BYTES = 4096
"""Of a class: numpy makes all as long as the longest."""
TURNED_AT_ONCE = 64
"""Images."""


def load_npz(path: Path) -> Images:
    """Arrays ``images`` (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 and ``labels`` (N,) integers.

    Optional: ``classes`` (names) and ``member`` (N,) bool. MedMNIST files work too: ``train_images``
    and ``train_labels`` are used. Images are unpacked onto the disk, compressed or not, so that what happens to the
    file later does not matter; those with channels last lie there twice while they are turned.
    """
    if not path.is_file():
        raise DataError(f"npz:{path}: no such file")
    with members(path, f"npz:{path}: needs arrays 'images' and 'labels', no pickled objects") as file:
        prefix = "" if "images" in file else "train_"
        images = _pixels(file[f"{prefix}images"], path)
        labels = _labels(file[f"{prefix}labels"], len(images), path)
        names = _names(file["classes"], path) if "classes" in file else None
        member = _stated(file["member"], len(images), path) if "member" in file else None
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if not images.flags.c_contiguous:
        turned = (np.ascontiguousarray(images[part]).data for part in slices(len(images), TURNED_AT_ONCE))
        images = on_disk(f"npz:{path}", turned).reshape(images.shape)
    classes = names or tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    return Images(f"npz:{readable(path.name)}", images, labels, classes, member)


def _pixels(member: Member, path: Path) -> NDArray[np.uint8]:
    """On the disk, which :func:`numpy.load` does for no ``.npz``."""
    if member.dtype != np.uint8 or len(member.shape) not in (3, 4) or 0 in member.shape[1:]:
        raise DataError(f"npz:{path}: images must be uint8 (N, H, W[, C]), got {member.dtype} {member.shape}")
    return member.shaped(on_disk(f"npz:{path}", member.parts()))


def _labels(member: Member, count: int, path: Path) -> NDArray[np.int64]:
    if math.prod(member.shape) != count or member.dtype.kind not in "iu":
        raise DataError(f"npz:{path}: labels must be {count} integers, got {member.dtype} {member.shape}")
    labels = member.array().reshape(-1)
    if labels.max(initial=0) >= MOST_CLASSES:
        raise DataError(f"npz:{path}: labels must be class numbers below {MOST_CLASSES:,}, got {labels.max()}")
    return labels.astype(np.int64)


def _names(member: Member, path: Path) -> tuple[str, ...]:
    if len(member.shape) != 1 or member.shape[0] > MOST_CLASSES or member.dtype.itemsize > MOST_NAME_BYTES:
        raise DataError(
            f"npz:{path}: classes must be at most {MOST_CLASSES:,} names of at most {MOST_NAME_BYTES:,} bytes, "
            f"got {member.dtype} {member.shape}"
        )
    names = tuple(str(name) for name in member.array())
    for name in names:
        name.encode()  # half of a pair of UTF-16 could not be written into a report
    return names


def _stated(member: Member, count: int, path: Path) -> NDArray[np.bool_]:
    if member.dtype != np.bool_ or member.shape != (count,):
        raise DataError(f"npz:{path}: 'member' must hold {count} booleans, got {member.dtype} {member.shape}")
    return member.array()
