"""The user's own images: a folder with one subfolder a class. It may be larger than memory.

It can state which images a given model was trained on: without that, a checkpoint of unknown training data cannot be
audited. Then the split follows the statement instead of a coin.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileprune.data.images import Images
from mobileprune.data.on_disk import on_disk
from mobileprune.errors import DataError, one_line

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
NOT_READ = {
    *(".apng", ".avif", ".dcm", ".dib", ".exr", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".jpx", ".jxl", ".pbm", ".pnm", ".psd", ".tga"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"),
}
"""Images all the same: left out without a word, one that a model was trained on would be missed by its audit."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
"""Of Pillow, whatever a file is called: it knows many more by their first bytes, and runs Ghostscript for one."""
GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"}
STATED = ("members", "nonmembers")
MOST_PIXELS = 2**26
"""Of an image whose shorter side was brought to the image size, before its middle is cut out: at most 256 MiB."""
LAYOUT = "expected PATH/<class>/<image>.png, or PATH/members/<class>/... and PATH/nonmembers/<class>/..."


def load_folder(path: Path, image_size: int | None = None) -> Images:
    """``PATH/<class>/<image>``, or ``PATH/members/<class>/<image>`` and ``PATH/nonmembers/<class>/<image>``.

    All images of one size, or of any where an ``image_size`` is given, to which :func:`fitted` brings them; grey or
    colour. Sorted, so the order is stable. They are decoded one by one, onto the disk; memory holds their names and
    labels. DataError where there are images that would be left out; other files and hidden ones are no concern of ours.
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
        raise DataError(f"folder:{path}: {_why_none(path) or _left_out(path, roots) or 'no images'}; {LAYOUT}")
    if left_out := _left_out(path, roots):
        raise DataError(f"folder:{path}: {left_out}; {LAYOUT}")
    grey = all(_mode(file) in GREY for file, _, _ in files)
    mode, name = "L" if grey else "RGB", f"folder:{readable(path.name)}"
    shape = _read(files[0][0], mode, image_size).shape
    pixels = on_disk(name, (_read_as(shape, file, mode, image_size) for file, _, _ in files)).reshape(-1, *shape)
    labels = np.array([k for _, k, _ in files], dtype=np.int64)
    member = np.array([inside for _, _, inside in files]) if stated else None
    names = tuple(readable(file.relative_to(path).as_posix()) for file, _, _ in files)
    return Images(name, pixels, labels, classes, member, names)


def readable(name: str) -> str:
    """Bytes that are no text, which file systems allow in names, become question marks."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")


def _class_names(folders: list[str], path: Path) -> tuple[str, ...]:
    """Readable, and as many as there are folders."""
    found: dict[str, str] = {}
    for folder in folders:
        if (name := readable(folder)) in found:
            alike = f"{os.fsencode(found[name])!r} and {os.fsencode(folder)!r}"
            raise DataError(f"folder:{path}: the folders {alike} would both be class {name!r}; rename one")
        found[name] = folder
    return tuple(found)


def _why_none(path: Path) -> str:
    """Of a folder without a single image where images should be; "" if its layout does not tell."""
    names = {folder.name for folder in _folders(path)}
    if any(file.suffix.lower() in SUFFIXES for file in path.iterdir()):
        return "its images lie in no folder of a class"
    if len(alone := names & set(STATED)) == 1:
        return f"there is {alone.pop()}/ but not the other of {' and '.join(STATED)}"
    if {"train"} <= names and names & {"val", "valid", "test"}:
        return (
            "train/ and others are no classes; call what the model was trained on members/, what it was not nonmembers/"
        )
    return ""


def _left_out(path: Path, roots: list[Path]) -> str:
    """Images that would not be read, how many and the first, with the way out; "" if there are none."""
    classes = [folder for root in roots for folder in _folders(root)]
    found = {
        "beside the folders of the classes, where none is read: move each into its class, or away": [
            image for root in {path, *roots} for image in _images(root)
        ],
        "in folders within a class, which are not read: move each into the folder of its class": [
            image for folder in classes for inner in _folders(folder) for image in _images_below(inner)
        ],
        "there but of a kind that is not read: convert each to PNG or JPEG, or remove it": [
            image for folder in classes for image in _images(folder) if image.suffix.lower() in NOT_READ
        ],
    }
    for what, images in found.items():
        if images:
            first = readable(min(images).relative_to(path).as_posix())
            count = "1 image is" if len(images) == 1 else f"{len(images):,} images are"
            return f"{count} {what} (the first: {first})"
    return ""


def _images(folder: Path) -> list[Path]:
    return _seen(file for file in folder.iterdir() if file.is_file())


def _images_below(folder: Path) -> Iterator[Path]:
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from _seen(Path(place, name) for name in names)


def _seen(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in SUFFIXES | NOT_READ and not file.name.startswith(".")]


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
