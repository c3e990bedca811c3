"""The user's own images: a folder with one subfolder a class, or an ``.npz`` file. Both may be larger than memory.

Both can state which images a given model was trained on: without that, a checkpoint of unknown training
data cannot be audited. Then the split follows the statement instead of a coin.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileprune.data.images import Images
from mobileprune.data.npz import Member, members
from mobileprune.data.on_disk import on_disk
from mobileprune.errors import DataError, one_line
from mobileprune.lazy import slices

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
"""Of Pillow, whatever a file is called: it knows many more by their first bytes, and runs Ghostscript for one."""
MOST_CLASSES = 1_000_000  # as in the manifest's schema; more are ids, not classes
MOST_NAME_BYTES = 4096
"""Of a class: numpy makes all as long as the longest."""
GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"}
TURNED_AT_ONCE = 64
"""Images."""
STATED = ("members", "nonmembers")
MOST_PIXELS = 2**26
"""Of an image whose shorter side was brought to the image size, before its middle is cut out: at most 256 MiB."""
LAYOUT = "expected PATH/<class>/<image>.png, or PATH/members/<class>/... and PATH/nonmembers/<class>/..."


def load_folder(path: Path, image_size: int | None = None) -> Images:
    """``PATH/<class>/<image>``, or ``PATH/members/<class>/<image>`` and ``PATH/nonmembers/<class>/<image>``.

    All images of one size, or of any where an ``image_size`` is given, to which :func:`fitted` brings them; grey or
    colour. Sorted, so the order is stable. They are decoded one by one, onto the disk; memory holds their names and
    labels.
    """
    if not path.is_dir():
        raise DataError(f"folder:{path}: no such folder; {LAYOUT}")
    stated = {p.name for p in _folders(path)} == set(STATED)
    roots = [path / name for name in STATED] if stated else [path]
    folders = sorted({folder.name for root in roots for folder in _folders(root)})
    classes = _class_names(folders, path)
    number = {name: k for k, name in enumerate(folders)}
    files = [
        (file, number[folder.name], root is roots[0])
        for root in roots
        for folder in _folders(root)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(f"folder:{path}: {_why_none(path)}; {LAYOUT}")
    grey = all(_mode(file) in GREY for file, _, _ in files)
    mode, name = "L" if grey else "RGB", f"folder:{_readable(path.name)}"
    shape = _read(files[0][0], mode, image_size).shape
    pixels = on_disk(name, (_read_as(shape, file, mode, image_size) for file, _, _ in files)).reshape(-1, *shape)
    labels = np.array([k for _, k, _ in files], dtype=np.int64)
    member = np.array([inside for _, _, inside in files]) if stated else None
    names = tuple(_readable(file.relative_to(path).as_posix()) for file, _, _ in files)
    return Images(name, pixels, labels, classes, member, names)


def _readable(name: str) -> str:
    """Bytes that are no text, which file systems allow in names, become question marks."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")


def _class_names(folders: list[str], path: Path) -> tuple[str, ...]:
    """Readable, and as many as there are folders."""
    found: dict[str, str] = {}
    for folder in folders:
        if (name := _readable(folder)) in found:
            alike = f"{os.fsencode(found[name])!r} and {os.fsencode(folder)!r}"
            raise DataError(f"folder:{path}: the folders {alike} would both be class {name!r}; rename one")
        found[name] = folder
    return tuple(found)


def _why_none(path: Path) -> str:
    """Of a folder without a single image where images should be."""
    names = {folder.name for folder in _folders(path)}
    if any(file.suffix.lower() in SUFFIXES for file in path.iterdir()):
        return "its images lie in no folder of a class"
    if len(alone := names & set(STATED)) == 1:
        return f"there is {alone.pop()}/ but not the other of {' and '.join(STATED)}"
    if {"train"} <= names and names & {"val", "valid", "test"}:
        return (
            "train/ and others are no classes; call what the model was trained on members/, what it was not nonmembers/"
        )
    return "no images"


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    if not file.is_file():  # a pipe would be waited for, a device read without end
        raise DataError(f"{file}: not a readable image (it is no regular file); remove or replace it")
    try:
        with file.open("rb") as raw, Image.open(raw, formats=FORMATS) as image:
            yield image
    except Exception as error:  # what decoders raise has no common base
        why = one_line(error) or type(error).__name__
        raise DataError(f"{file}: not a readable image ({why}); remove or replace it") from error


def _mode(file: Path) -> str:
    with _opened(file) as image:
        return image.mode


def _read_as(shape: tuple[int, ...], file: Path, mode: str, image_size: int | None) -> memoryview:
    pixels = _read(file, mode, image_size)
    if pixels.shape != shape:
        size, first = (f"{width}x{height}" for _, height, width in (pixels.shape, shape))
        raise DataError(
            f"{file}: all images must have one size; {size} differs from {first}: bring all to N x N pixels with "
            "--image-size N, or resize them"
        )
    return np.ascontiguousarray(pixels).data


def _read(file: Path, mode: str, image_size: int | None) -> NDArray[np.uint8]:
    """(C, H, W) uint8"""
    with _opened(file) as image:
        if image.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {image.mode} have no fixed range; save it with 8 or 16 bits")
        if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
            decoded = Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert(mode)
        else:
            decoded = image.convert(mode)
    try:
        pixels = np.asarray(decoded if image_size is None else fitted(decoded, image_size))
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def fitted(image: Image.Image, side: int) -> Image.Image:
    """``image`` (mode L or RGB) as (side, side): its shorter side brought to ``side``, and then the middle.

    Bit for bit torchvision's ``Resize(side)`` and ``CenterCrop(side)`` of an image of Pillow, which most networks are
    evaluated with: bilinear with antialiasing, the longer side floor(side * long / short), half pixels to the even.
    DataError for an image so long and thin that it would become larger than ``MOST_PIXELS`` on the way.
    """
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{image.width}x{image.height} is too long and thin for --image-size {side}: it would become "
            f"{width}x{height} before the middle is cut out, more than {MOST_PIXELS:,} pixels; crop or remove it"
        )
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + side, top + side))


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
    return Images(f"npz:{_readable(path.name)}", images, labels, classes, member)


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
