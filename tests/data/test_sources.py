"""Every source of images gives the same plain value or a DataError; none falls over on what users really have."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobileprune.data import DATASETS, Images, folder, load
from mobileprune.errors import DataError, UsageError
from mobileprune.inspection.explanation import IMAGES
from mobileprune.torchvision_import import torchvision

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
RNG = np.random.default_rng(0)
GREY, RGB = RNG.integers(0, 256, (6, 4, 5), np.uint8), RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"shared/data/{name} is not beside this checkout")
    return SHARED


def npz(path: Path, **arrays: np.ndarray) -> Images:
    np.savez(path / "set.npz", **arrays)
    return load(f"npz:{path / 'set.npz'}")


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


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


@pytest.mark.parametrize(("array", "channels"), [(GREY[0], 1), (RGB[0], 3), (GREY[0] > 99, 1)], ids=["L", "RGB", "1"])
def test_folder_of_classes(tmp_path: Path, array: np.ndarray, channels: int) -> None:
    for name in ("cat/b.PNG", "cat/a.png", "dog/c.bmp", ".git/x/y.png"):
        write(tmp_path / name, array)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "notes.txt").write_text("no class")
    images = load(f"folder:{tmp_path}")
    assert images.pixels.shape == (3, channels, 4, 5)
    assert (images.classes, images.labels.tolist(), images.member) == (("cat", "dog"), [0, 0, 1], None)
    assert (images.pixels == np.atleast_3d(array * 255 if array.dtype == bool else array).transpose(2, 0, 1)).all()


def test_folder_keeps_the_scale_of_16_bit_grey(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "x.png", np.array([[0, 257, 32_896, 65_535]], np.uint16))
    assert load(f"folder:{tmp_path}").pixels[0].tolist() == [[[0, 1, 128, 255]]]


def test_folder_does_not_lose_colour_behind_a_grey_first_image(tmp_path: Path) -> None:
    for name, array in (("a", GREY[0]), ("b", RGB[0])):
        write(tmp_path / name / "x.png", array)
    images = load(f"folder:{tmp_path}")
    assert (images.pixels[1] == RGB[0].transpose(2, 0, 1)).all()


def test_folder_that_states_membership(tmp_path: Path) -> None:
    for name in ("members/cat/1.png", "members/dog/2.png", "nonmembers/dog/3.png", "nonmembers/emu/4.png"):
        write(tmp_path / name, GREY[int(name[-5])])
    (tmp_path / ".cache").mkdir()
    images = load(f"folder:{tmp_path}")
    assert images.classes == ("cat", "dog", "emu")
    assert (images.labels.tolist(), images.member.tolist()) == ([0, 1, 1, 2], [True, True, False, False])
    assert (images.pixels[:, 0] == GREY[1:5]).all()


def test_folder_problems_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; expected PATH/<class>"):
        load(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(DataError, match="no images; expected PATH/<class>"):
        load(f"folder:{tmp_path}")
    write(tmp_path / "1.png", GREY[0])
    with pytest.raises(DataError, match="its images lie in no folder of a class; expected"):
        load(f"folder:{tmp_path}")
    (tmp_path / "1.png").unlink()
    write(tmp_path / "half" / "members" / "a" / "1.png", GREY[0])
    with pytest.raises(DataError, match="there is members/ but not the other of members and nonmembers; expected"):
        load(f"folder:{tmp_path / 'half'}")
    write(tmp_path / "usual" / "train" / "a" / "1.png", GREY[0])
    write(tmp_path / "usual" / "val" / "a" / "1.png", GREY[0])
    with pytest.raises(DataError, match="call what the model was trained on members/, what it was not nonmembers/"):
        load(f"folder:{tmp_path / 'usual'}")
    for name in ("half", "usual"):
        shutil.rmtree(tmp_path / name)
    write(tmp_path / "a" / "1.png", GREY[0])
    with pytest.raises(DataError, match="at least 2 classes"):
        load(f"folder:{tmp_path}")
    write(tmp_path / "b" / "2.png", GREY[0, :, :4])
    with pytest.raises(
        DataError, match=r"2\.png: all images must have one size; 4x4 differs from 5x4: bring all .*--image-size N"
    ):
        load(f"folder:{tmp_path}")
    whole = (tmp_path / "a" / "1.png").read_bytes()
    for raw in (b"", b"GIF", whole[: len(whole) // 2]):
        (tmp_path / "b" / "2.png").write_bytes(raw)
        with pytest.raises(DataError, match=r"2\.png: not a readable image"):
            load(f"folder:{tmp_path}")


@pytest.mark.parametrize("stated", [False, True], ids=["plain", "stated"])
@pytest.mark.parametrize(
    ("names", "match"),
    [
        (
            ["cat/2024/a.jpg", "cat/2024/b.PNG", "dog/x/y/c.HEIC"],
            r"3 images are in folders within a class.*: cat/2024/a",
        ),
        (["z.png", "y.gif"], r"2 images are beside the folders of the classes.* \(the first: y\.gif\)"),
        (["cat/x.HEIC"], r"1 image is there but of a kind that is not read: convert each .*: cat/x\.HEIC\)"),
        (["dog/b.gif", "dog/a.dng", "cat/c.avif"], r"3 images are there but of a kind .*: cat/c\.avif\)"),
    ],
)
def test_an_image_that_would_be_left_out_is_refused(tmp_path: Path, names: list[str], match: str, stated: bool) -> None:
    """An audit would take it for one that the model was not trained on, or for none."""
    for side in ("members/", "nonmembers/") if stated else ("",):
        for name in ("cat/1.png", "dog/2.png"):
            write(tmp_path / f"{side}{name}", GREY[0])
    for name in names:
        path = tmp_path / ("members" if stated else "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"is not opened")
    with pytest.raises(
        DataError, match=match.replace("cat/", "members/cat/").replace(": y", ": members/y") if stated else match
    ):
        load(f"folder:{tmp_path}")


def test_images_in_deeper_folders_only_are_no_empty_data(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "2024" / "1.png", GREY[0])
    with pytest.raises(DataError, match=r"1 image is in folders within a class, .*: cat/2024/1\.png\); expected"):
        load(f"folder:{tmp_path}")


def test_an_image_beside_members_and_nonmembers_is_refused(tmp_path: Path) -> None:
    for name in ("members/a/1.png", "nonmembers/b/2.png", "3.jpg"):
        write(tmp_path / name, GREY[0])
    with pytest.raises(DataError, match=r"1 image is beside the folders of the classes, .* \(the first: 3\.jpg\)"):
        load(f"folder:{tmp_path}")


def test_other_files_and_hidden_ones_are_left_out_without_a_word(tmp_path: Path) -> None:
    others = ("labels.json", ".DS_Store", "Thumbs.db", "notes.txt", ".trash/x.png", ".x.heic", "empty/notes.txt")
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name, GREY[0])
    for name in (*others, *(f"a/{name}" for name in others)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    images = load(f"folder:{tmp_path}")
    assert images.files == ("a/1.png", "b/2.png")


SHAPES = ((1, 1), (1, 37), (90, 1), (3, 700), (700, 3), (9, 9), (16, 16), (16, 17), (31, 16), (33, 47), (501, 334))
"""(H, W)"""


def as_evaluated(image: Image.Image, side: int) -> np.ndarray:
    """(C, H, W) as torchvision's usual evaluation transform has it."""
    functional = torchvision("transforms.v2").functional
    middle = functional.center_crop(functional.resize(image, [side]), [side])
    return np.atleast_3d(np.asarray(middle)).transpose(2, 0, 1)


@pytest.mark.parametrize("side", [8, 16, 17, 50])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "LA", "RGBA", "I;16"])
def test_images_of_any_size_are_brought_to_one_as_torchvision_does(tmp_path: Path, mode: str, side: int) -> None:
    """Bit for bit, whatever the file: wide, tall, smaller than asked for, of a single pixel."""
    rng, expected = np.random.default_rng(0), []
    for i, (height, width) in enumerate(SHAPES):
        if mode == "I;16":
            grey = rng.integers(0, 2**16, (height, width), np.uint16)
            image, plain = Image.fromarray(grey), Image.fromarray((grey // 257).astype(np.uint8))
        else:
            colours = Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8))
            image = colours.convert("RGB").convert(mode) if mode in ("1", "P") else colours.convert(mode)
            plain = image.convert("L" if mode in ("1", "L", "LA") else "RGB")
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        image.save(tmp_path / "ab"[i % 2] / f"{i:02d}.png")
        expected.append(as_evaluated(plain, side))
    images = load(f"folder:{tmp_path}", image_size=side)
    assert images.files is not None
    for name, pixels in zip(images.files, images.pixels, strict=True):
        np.testing.assert_array_equal(pixels, expected[int(name[2:4])], err_msg=name)


@settings(max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(8, 80), channels=st.sampled_from([1, 3]))
def test_any_shape_is_brought_to_any_size_as_torchvision_does(height, width, side, channels):
    array = np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)
    image = Image.fromarray(array[..., 0] if channels == 1 else array)
    found = np.atleast_3d(np.asarray(folder.fitted(image, side))).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, as_evaluated(image, side))


def test_images_of_the_size_asked_for_stay_as_they_are(tmp_path: Path) -> None:
    for i, name in enumerate(("a/1.png", "b/2.png")):
        write(tmp_path / name, np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8))
    assert load(f"folder:{tmp_path}", image_size=16).sha256() == load(f"folder:{tmp_path}").sha256()


@pytest.mark.parametrize("shape", [(1, 50_000), (50_000, 1)])
def test_an_image_that_would_become_huge_on_the_way_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name, np.zeros(shape, np.uint8))
    height, width = shape
    became = f"{224 * width}x{224 * height}"
    with pytest.raises(
        DataError, match=rf"1\.png: {width}x{height} is too long and thin for .*224: .* {became} before"
    ):
        load(f"folder:{tmp_path}", image_size=224)
    assert load(f"folder:{tmp_path}", image_size=8).shape == (1, 8, 8)


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


def test_a_folder_names_its_files_relative_to_itself(tmp_path: Path) -> None:
    for side, count in (("members", 3), ("nonmembers", 2)):
        for i in range(count):
            write(tmp_path / "set" / side / f"class {i % 2}" / f"{i}.png", GREY[i])
    images = load(f"folder:{tmp_path / 'set'}")
    assert images.files is not None
    assert sorted(images.files) == sorted(p.relative_to(tmp_path / "set").as_posix() for p in tmp_path.rglob("*.png"))
    for name, pixels, member in zip(images.files, images.pixels, images.member, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "set" / name)), pixels[0])
        assert name.startswith("members/") == member
    assert load("digits").files is None
    before = images.sha256()
    (tmp_path / "set" / "members" / "class 0" / "0.png").rename(tmp_path / "set" / "members" / "class 0" / "00.png")
    assert load(f"folder:{tmp_path / 'set'}").sha256() == before, "names are no part of the data"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only text in names")
def test_a_name_that_is_no_text_can_be_written_into_a_report(tmp_path: Path) -> None:
    for i, name in enumerate((b"a/\xff.png", b"b/1.png")):
        write(tmp_path / os.fsdecode(name), GREY[i])
    assert load(f"folder:{tmp_path}").files == ("a/?.png", "b/1.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only text in names")
def test_class_names_that_are_no_text_are_readable_and_stay_apart(tmp_path: Path) -> None:
    for i, name in enumerate((b"\xff/1.png", b"b/1.png")):
        write(tmp_path / os.fsdecode(name), GREY[i])
    images = load(f"folder:{tmp_path}")
    assert (images.classes, images.files, images.labels.tolist()) == (("b", "?"), ("b/1.png", "?/1.png"), [0, 1])
    write(tmp_path / os.fsdecode(b"\xfe/1.png"), GREY[2])
    with pytest.raises(DataError, match=r"folders b'\\xfe' and b'\\xff' would both be class '\?'; rename one"):
        load(f"folder:{tmp_path}")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("kind", ["EPS", "DDS", "GIF", "JPEG2000", "TGA"])
def test_what_is_called_png_but_is_of_a_kind_not_listed_is_not_decoded(tmp_path: Path, kind: str) -> None:
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name, RGB[0])
    if kind == "EPS":  # which Pillow hands to Ghostscript, an interpreter of programs
        (tmp_path / "b" / "2.png").write_bytes(POSTSCRIPT)
    else:
        Image.fromarray(RGB[0]).save(tmp_path / "b" / "2.png", kind)
    with pytest.raises(DataError, match=r"2\.png: not a readable image \(cannot identify image file"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "WEBP", "PPM", "TIFF"])
def test_the_kinds_listed_are_decoded_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name, RGB[0])
    Image.fromarray(RGB[0]).save(tmp_path / "b" / "2.png", kind)
    assert load(f"folder:{tmp_path}").pixels.shape == (2, 3, 4, 5)


@pytest.mark.skipif(os.name != "posix", reason="there are no pipes and devices in folders")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a" / "1.png", GREY[0])
    odd = tmp_path / "b" / "2.png"
    odd.parent.mkdir()
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](odd)
    with pytest.raises(DataError, match=r"2\.png: not a readable image \(it is no regular file\)"):
        load(f"folder:{tmp_path}")
