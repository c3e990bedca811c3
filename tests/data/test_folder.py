"""Folders of images: what is read of them, and what is refused."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import GREY, RGB, write

from mobileprune.data import load
from mobileprune.errors import DataError


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
