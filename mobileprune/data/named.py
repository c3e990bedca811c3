"""Public data sets through torchvision's own loaders and download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobileprune.data.images import Images
from mobileprune.errors import DataError
from mobileprune.torchvision_import import torchvision


def _load(name: str, class_name: str, data_dir: Path | None) -> Images:
    """The training images: non-members come from the same pool (official test sets can be shifted)."""
    if data_dir is None:
        raise DataError(f"{name} is not embedded: give --data-dir DIR (it is downloaded there when missing)")
    dataset_class = getattr(torchvision("datasets"), class_name)
    try:
        try:
            dataset = dataset_class(data_dir, train=True, download=False)
        except RuntimeError:  # torchvision's word for "not there"
            dataset = dataset_class(data_dir, train=True, download=True)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise DataError(
            f"{name} is not in {data_dir} and could not be downloaded ({error}); "
            f"put torchvision's files of {class_name} there, or use --dataset digits"
        ) from error
    pixels = np.asarray(dataset.data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return Images(
        name,
        np.ascontiguousarray(pixels, dtype=np.uint8),
        np.asarray(dataset.targets, dtype=np.int64),
        tuple(dataset.classes),
    )


def load_mnist(data_dir: Path | None = None) -> Images:
    return _load("mnist", "MNIST", data_dir)


def load_fashion_mnist(data_dir: Path | None = None) -> Images:
    return _load("fashion-mnist", "FashionMNIST", data_dir)


def load_cifar10(data_dir: Path | None = None) -> Images:
    return _load("cifar10", "CIFAR10", data_dir)


def load_cifar100(data_dir: Path | None = None) -> Images:
    return _load("cifar100", "CIFAR100", data_dir)
