"""Image data sets by name: ``DATASETS`` for names, ``PREFIXES`` for the user's own (``npz:PATH``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobileprune.data.arrays import load_npz
from mobileprune.data.digits import load_digits
from mobileprune.data.folder import load_folder
from mobileprune.data.images import Images
from mobileprune.data.named import load_cifar10, load_cifar100, load_fashion_mnist, load_mnist
from mobileprune.errors import UsageError, unknown

DATASETS: dict[str, Callable[[Path | None], Images]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
}
PREFIXES: dict[str, Callable[[Path, int | None], Images]] = {
    "folder": load_folder,
    "npz": lambda path, image_size: load_npz(path),
}
RESIZED = ("folder",)
"""Of ``PREFIXES``: those whose images may have several sizes, until an image size is given."""


def load(name: str, data_dir: Path | None = None, image_size: int | None = None) -> Images:
    """The data set called ``name``, its images brought to ``image_size`` x ``image_size`` pixels where that is given.

    Raises UsageError for an unknown name and for an image size that would have no effect, DataError for bad data.
    """
    check_size(name, image_size)
    prefix, _, path = name.partition(":")
    if path and prefix in PREFIXES:
        return PREFIXES[prefix](Path(path), image_size)
    if name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, *(f"{p}:PATH" for p in PREFIXES)])
    return DATASETS[name](data_dir)


def is_resized(name: str) -> bool:
    """Whether an image size can have an effect on the data set called ``name``."""
    return name.partition(":")[0] in RESIZED


def check_size(name: str, image_size: int | None) -> None:
    """UsageError for an ``image_size`` that would have no effect on the data set called ``name``."""
    if image_size is not None and not is_resized(name):
        raise UsageError(
            f"--image-size {image_size} would have no effect on {name}: it is for images of "
            f"{' and '.join(f'{prefix}:PATH' for prefix in RESIZED)}; leave it out"
        )


__all__ = ["DATASETS", "PREFIXES", "Images", "check_size", "is_resized", "load"]
