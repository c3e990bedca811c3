"""Image data sets by name: ``DATASETS`` for names, ``PREFIXES`` for the user's own (``npz:PATH``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobileprune.data.digits import load_digits
from mobileprune.data.images import Images
from mobileprune.data.named import load_cifar10, load_cifar100, load_fashion_mnist, load_mnist
from mobileprune.data.user import load_folder, load_npz
from mobileprune.errors import unknown

DATASETS: dict[str, Callable[[Path | None], Images]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
}
PREFIXES: dict[str, Callable[[Path], Images]] = {"folder": load_folder, "npz": load_npz}


def load(name: str, data_dir: Path | None = None) -> Images:
    """The data set called ``name``; raises UsageError for an unknown name, DataError for bad data."""
    prefix, _, path = name.partition(":")
    if path and prefix in PREFIXES:
        return PREFIXES[prefix](Path(path))
    if name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, *(f"{p}:PATH" for p in PREFIXES)])
    return DATASETS[name](data_dir)


__all__ = ["DATASETS", "PREFIXES", "Images", "load"]
