"""Every source of images gives the same plain value or a DataError; none falls over on what users really have."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import GREY, RGB

from mobileprune.data import DATASETS, Images, load
from mobileprune.errors import DataError, UsageError
from mobileprune.inspection.explanation import IMAGES

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
LABELS = np.array([0, 1, 2, 0, 1, 2])


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"shared/data/{name} is not beside this checkout")
    return SHARED


def npz(path: Path, **arrays: np.ndarray) -> Images:
    np.savez(path / "set.npz", **arrays)
    return load(f"npz:{path / 'set.npz'}")


def test_digits_are_embedded() -> None:
    images = load("digits")
    assert (images.pixels.shape, images.pixels.dtype, images.labels.dtype) == ((1797, 1, 28, 28), np.uint8, np.int64)
    assert (images.shape, images.member) == ((1, 28, 28), None)
    assert images.classes == tuple("0123456789")
    assert np.bincount(images.labels).min() > 170
    assert (images.pixels.min(), images.pixels.max()) == (0, 255)
    assert images.sha256() == load("digits").sha256()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (RGB, RGB.transpose(0, 3, 1, 2)),
        (RGB.transpose(0, 3, 1, 2), RGB.transpose(0, 3, 1, 2)),
    ],
    ids=["NHW", "NHW1", "N1HW", "NHWC", "NCHW"],
)
def test_npz_layouts_become_nchw(tmp_path: Path, pixels: np.ndarray, expected: np.ndarray) -> None:
    images = npz(tmp_path, images=pixels, labels=LABELS.astype(np.uint8))
    assert images.pixels.flags.c_contiguous
    assert (images.pixels == expected).all()
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == LABELS.tolist()
    assert (images.name, images.classes, images.member) == ("npz:set.npz", ("0", "1", "2"), None)


def test_npz_takes_class_names_membership_and_medmnist_names(tmp_path: Path) -> None:
    member = LABELS > 0
    images = npz(tmp_path, images=GREY, labels=LABELS, classes=np.array(["a", "b", "c", "d"]), member=member)
    assert images.classes == ("a", "b", "c", "d")
    assert images.member.tolist() == member.tolist()
    medmnist = {"train_images": GREY, "train_labels": LABELS[:, None], "test_images": GREY[:2]}
    assert npz(tmp_path, **medmnist).sha256() == npz(tmp_path, images=GREY, labels=LABELS).sha256()


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"labels": LABELS}, "'images' and 'labels'"),
        ({"images": GREY}, "'images' and 'labels'"),
        ({"images": GREY / 255, "labels": LABELS}, "must be uint8"),
        ({"images": GREY.astype(np.int64), "labels": LABELS}, "must be uint8"),
        ({"images": GREY[0], "labels": LABELS}, "must be uint8"),
        ({"images": np.zeros((6, 4, 5, 4), np.uint8), "labels": LABELS}, "1 or 3 channels"),
        ({"images": GREY, "labels": LABELS[:5]}, "must be 6 integers"),
        ({"images": GREY, "labels": LABELS * 1.0}, "must be 6 integers"),
        ({"images": GREY, "labels": LABELS - 1}, r"must lie in \[0, 2\)"),
        ({"images": GREY, "labels": LABELS, "classes": np.array(["a", "b"])}, r"must lie in \[0, 2\)"),
        ({"images": GREY, "labels": LABELS * 0}, "at least 2 classes"),
        ({"images": GREY[:0], "labels": LABELS[:0]}, "at least 2 classes"),
        ({"images": GREY, "labels": LABELS, "member": LABELS}, "6 booleans"),
        ({"images": GREY, "labels": LABELS, "member": LABELS[:3] > 0}, "6 booleans"),
        ({"images": GREY.astype(object), "labels": LABELS}, "no pickled objects"),
        ({"images": GREY, "labels": LABELS, "classes": np.array(["a", None, "b"])}, "no pickled objects"),
        ({"images": GREY, "labels": LABELS * 1_000_000}, "labels"),  # ids, not classes
    ],
)
def test_npz_problems_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], match: str) -> None:
    with pytest.raises(DataError, match=match):
        npz(tmp_path, **arrays)


@settings(max_examples=150)
@given(cut=st.none() | st.integers(0, 1000), flips=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255))))
def test_damaged_npz_is_a_data_error(tmp_path_factory: pytest.TempPathFactory, cut, flips):
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    np.savez(path, images=GREY, labels=LABELS)
    raw = bytearray(path.read_bytes())
    for place, byte in flips:
        raw[place % len(raw)] = byte
    path.write_bytes(raw[:cut])
    with contextlib.suppress(DataError):
        assert load(f"npz:{path}").pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["digits", "mnist", "npz:a.npz"])
def test_an_image_size_that_would_have_no_effect_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--image-size 16 would have no effect on {name}.*folder:PATH; leave it out"):
        load(name, image_size=16)


@pytest.mark.parametrize(
    ("name", "hint"), [("mnits", "did you mean 'mnist'"), ("nzp:x", "npz:PATH"), ("", "choose from cifar10")]
)
def test_unknown_names_list_the_choices(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        load(name)


@pytest.mark.parametrize("prefix", ["npz", "folder"])
def test_missing_path_is_a_data_error(prefix: str) -> None:
    with pytest.raises(DataError, match="no such"):
        load(f"{prefix}:absent/there")


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_torchvision_sets_are_read_without_a_network(name: str, folder: str) -> None:
    images = load(name, shared(folder))
    assert images.pixels.shape == (60_000, 1, 28, 28)
    assert (images.shape, len(images.classes)) == IMAGES[name]
    assert np.bincount(images.labels).min() > 5_000


def test_what_explain_takes_the_named_sets_for_is_what_they_are() -> None:
    assert IMAGES.keys() == DATASETS.keys()
    images = load("digits")
    assert (images.shape, len(images.classes)) == IMAGES["digits"]


def test_pneumoniamnist_is_read() -> None:
    images = load(f"npz:{shared('medmnist') / 'medmnist' / 'pneumoniamnist.npz'}")
    assert images.pixels.shape == (4708, 1, 28, 28)
    assert images.classes == ("0", "1")


SETS = ("mnist", "fashion-mnist", "cifar10", "cifar100")


@pytest.mark.parametrize("name", SETS)
def test_named_sets_need_a_data_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name} is not embedded: give --data-dir DIR"):
        load(name)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be downloaded"):
        load(name, tmp_path / "file")


@pytest.mark.parametrize("name", SETS)
def test_a_failed_download_names_the_way_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DataError, match=rf"{name} is not in .*, or use --dataset digits"):
        load(name, tmp_path)


@pytest.mark.parametrize("raw", [b"", b"\0\0\x08\x03\0\0", b"<html>captive portal</html>"])
def test_damaged_mnist_files_are_a_data_error(tmp_path: Path, raw: bytes) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{part}-ubyte").write_bytes(raw)
    with pytest.raises(DataError, match="mnist"):
        load("mnist", tmp_path)
