"""The user's own images: a folder with one subfolder a class, or an ``.npz`` file.

Both can state which images a given model was trained on: without that, a checkpoint of unknown training
data cannot be audited. Then the split follows the statement instead of a coin.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileprune.data.images import Images
from mobileprune.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
MOST_CLASSES = 1_000_000  # as in the manifest's schema; more are ids, not classes
UNREADABLE = (KeyError, ValueError, OSError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)
GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"}
STATED = ("members", "nonmembers")
LAYOUT = "expected PATH/<class>/<image>.png, or PATH/members/<class>/... and PATH/nonmembers/<class>/..."


def load_folder(path: Path) -> Images:
    """``PATH/<class>/<image>``, or ``PATH/members/<class>/<image>`` and ``PATH/nonmembers/<class>/<image>``.

    All images of one size, grey or colour. Sorted, so the order is stable.
    """
    if not path.is_dir():
        raise DataError(f"folder:{path}: no such folder; {LAYOUT}")
    stated = {p.name for p in _folders(path)} == set(STATED)
    roots = [path / name for name in STATED] if stated else [path]
    classes = tuple(sorted({folder.name for root in roots for folder in _folders(root)}))
    files = [
        (file, classes.index(folder.name), root is roots[0])
        for root in roots
        for folder in _folders(root)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(f"folder:{path}: no images; {LAYOUT}")
    grey = all(_mode(file) in GREY for file, _, _ in files)
    pixels: list[NDArray[np.uint8]] = []
    for file, _, _ in files:
        pixels.append(_read(file, "L" if grey else "RGB"))
        if pixels[-1].shape != pixels[0].shape:
            size, first = (f"{p.shape[2]}x{p.shape[1]}" for p in (pixels[-1], pixels[0]))
            raise DataError(f"{file}: all images must have one size; {size} differs from {first}: resize them")
    labels = np.array([k for _, k, _ in files], dtype=np.int64)
    member = np.array([inside for _, _, inside in files]) if stated else None
    return Images(f"folder:{path.name}", np.stack(pixels), labels, classes, member)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with file.open("rb") as raw, Image.open(raw) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a readable image ({error}); remove or replace it") from error


def _mode(file: Path) -> str:
    with _opened(file) as image:
        return image.mode


def _read(file: Path, mode: str) -> NDArray[np.uint8]:
    """(C, H, W) uint8"""
    with _opened(file) as image:
        if image.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {image.mode} have no fixed range; save it with 8 or 16 bits")
        if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
            pixels = (np.asarray(image) // 257).astype(np.uint8)
            pixels = np.asarray(Image.fromarray(pixels).convert(mode))
        else:
            pixels = np.asarray(image.convert(mode))
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def load_npz(path: Path) -> Images:
    """Arrays ``images`` (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 and ``labels`` (N,) integers.

    Optional: ``classes`` (names) and ``member`` (N,) bool. MedMNIST files work too: ``train_images``
    and ``train_labels`` are used.
    """
    if not path.is_file():
        raise DataError(f"npz:{path}: no such file")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            prefix = "" if "images" in file else "train_"
            images, labels = file[f"{prefix}images"], file[f"{prefix}labels"]
            names = tuple(str(c) for c in file["classes"]) if "classes" in file else None
            member = file.get("member")
    except UNREADABLE as error:
        raise DataError(f"npz:{path}: needs arrays 'images' and 'labels', no pickled objects ({error})") from error
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"npz:{path}: images must be uint8 (N, H, W[, C]), got {images.dtype} {images.shape}")
    if labels.size != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"npz:{path}: labels must be {len(images)} integers, got {labels.dtype} {labels.shape}")
    if labels.max(initial=0) >= MOST_CLASSES:
        raise DataError(f"npz:{path}: labels must be class numbers below {MOST_CLASSES:,}, got {labels.max()}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    labels = labels.reshape(-1).astype(np.int64)
    classes = names or tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    return Images(f"npz:{path.name}", np.ascontiguousarray(images), labels, classes, member)
