"""The user's own images: a folder with one subfolder a class, or an ``.npz`` file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mobileprune.data.images import Images
from mobileprune.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def load_folder(path: Path) -> Images:
    """``PATH/<class>/<image>``; all images of one size, grey or colour. Sorted, so the order is stable."""
    if not path.is_dir():
        raise DataError(f"folder:{path}: no such folder; expected {path}/<class>/<image>.png")
    classes = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")))
    files = [
        (f, k) for k, c in enumerate(classes) for f in sorted((path / c).iterdir()) if f.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(f"folder:{path}: no images; expected {path}/<class>/<image>.png")
    with _opened(files[0][0]) as first:
        mode, size = ("L" if first.mode in ("1", "L", "I;16") else "RGB"), first.size
    pixels = []
    for file, _ in files:
        with _opened(file) as image:
            if image.size != size:
                raise DataError(f"{file}: all images must have one size; {image.size} differs from {size}: resize them")
            pixels.append(np.atleast_3d(np.asarray(image.convert(mode))).transpose(2, 0, 1))
    return Images(f"folder:{path.name}", np.stack(pixels), np.array([k for _, k in files], dtype=np.int64), classes)


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{file}: not a readable image ({error}); remove or replace it") from error


def load_npz(path: Path) -> Images:
    """Arrays ``images`` (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 and ``labels`` (N,); optional ``classes``.

    MedMNIST files work too: ``train_images`` and ``train_labels`` are used.
    """
    if not path.is_file():
        raise DataError(f"npz:{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            prefix = "" if "images" in file else "train_"
            images, labels = file[f"{prefix}images"], file[f"{prefix}labels"]
            classes = tuple(str(c) for c in file["classes"]) if "classes" in file else None
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"npz:{path}: needs arrays 'images' and 'labels', no pickled objects ({error})") from error
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"npz:{path}: images must be uint8 (N, H, W[, C]), got {images.dtype} {images.shape}")
    if labels.size != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"npz:{path}: labels must be {len(images)} integers, got {labels.dtype} {labels.shape}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    labels = labels.reshape(-1).astype(np.int64)
    classes = classes or tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    return Images(f"npz:{path.name}", np.ascontiguousarray(images), labels, classes)
