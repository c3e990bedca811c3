"""Data sets on the disk: the same bytes, no file that anybody has to clear away, and a full disk is said."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobileprune.data import load
from mobileprune.data.on_disk import on_disk
from mobileprune.errors import DataError

SIDE = 16


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def pictures(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def folder_of(images: np.ndarray, root: Path) -> str:
    for i, image in enumerate(images):
        path = root / "ab"[i % 2] / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return f"folder:{root}"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


@given(st.lists(st.binary(max_size=30_000), max_size=5))
def test_the_array_is_all_parts_one_after_the_other(parts: list[bytes]) -> None:
    found = on_disk("set", [memoryview(part) for part in parts])
    assert (found.dtype, found.shape) == (np.uint8, (len(b"".join(parts)),))
    assert found.tobytes() == b"".join(parts)
    assert found.flags.writeable, "else torch warns of it"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the file has a name until it is closed")
def test_the_file_has_no_name_while_it_is_written_and_later(place: Path) -> None:
    def parts() -> Iterator[bytes]:
        for value in range(3):
            yield bytes([value]) * 100_000
            assert not any(place.iterdir())

    files, found = open_files(), on_disk("set", parts())
    assert not any(place.iterdir())
    assert found.reshape(3, -1).tolist() == [[value] * 100_000 for value in range(3)]
    del found
    assert open_files() == files


def test_a_folder_is_what_pillow_reads_one_by_one(tmp_path: Path) -> None:
    images = pictures()
    found, order = load(folder_of(images, tmp_path / "set")), [0, 2, 4, 6, 8, 1, 3, 5, 7]
    np.testing.assert_array_equal(found.pixels, images[order].transpose(0, 3, 1, 2))
    assert found.pixels.flags.c_contiguous


@pytest.mark.parametrize("wrong", [b"\x89PNG no more", Image.new("RGB", (SIDE, SIDE + 1))], ids=["broken", "larger"])
def test_a_bad_image_in_the_middle_leaves_nothing_behind(wrong: object, tmp_path: Path, place: Path) -> None:
    name, bad = folder_of(pictures(), tmp_path / "set"), tmp_path / "set" / "b" / "00003.png"
    if isinstance(wrong, Image.Image):
        wrong.save(bad)
    else:
        bad.write_bytes(bad.read_bytes()[:60] + wrong)
    files = open_files()
    with pytest.raises(DataError, match=r"00003\.png: (not a readable image|all images must have one size; 16x17)"):
        load(name)
    assert not any(place.iterdir())
    assert open_files() == files


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_load_leaves_nothing_behind(
    kind: type[BaseException], tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, opened, files = folder_of(pictures(), tmp_path / "set"), Image.open, open_files()

    def stops(raw: io.BufferedReader, formats: Sequence[str]) -> Image.Image:
        if str(raw.name).endswith("00005.png"):
            raise kind
        return opened(raw, formats=formats)

    monkeypatch.setattr(Image, "open", stops)
    with pytest.raises(DataError if kind is MemoryError else kind):
        load(name)
    assert not any(place.iterdir())
    assert open_files() == files


LAYOUTS = {
    "NHW": lambda x: x[..., 0],
    "NHWC": lambda x: x,
    "NCHW": lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)),
    "columns first": np.asfortranarray,
    "NHW, columns first": lambda x: np.asfortranarray(x[..., 1]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("count", [5, 64, 131])
def test_an_npz_is_what_numpy_reads(layout: str, save, count: int, tmp_path: Path, place: Path) -> None:
    images, path = LAYOUTS[layout](pictures(count)), tmp_path / "set.npz"
    save(path, images=images, labels=np.arange(count) % 2)
    found = load(f"npz:{path}")
    path.write_bytes(b"overwritten")
    expected = images[:, None] if images.ndim == 3 else images
    expected = expected if expected.shape[1] in (1, 3) else expected.transpose(0, 3, 1, 2)
    assert found.pixels.flags.c_contiguous
    np.testing.assert_array_equal(found.pixels, expected)
    assert not any(place.iterdir())


@pytest.mark.parametrize("shape", ["(60, 16, 16)", "(70, 16, 16)", "(64, 16, 17)", "(99, 99, 99)", "(64, 0, 16)"])
def test_an_npz_whose_header_lies_is_refused(shape: str, tmp_path: Path, place: Path) -> None:
    path = tmp_path / "set.npz"
    arrays = {"images": np.zeros((64, 16, 16), np.uint8), "labels": np.arange(64) % 2}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            np.save(content := io.BytesIO(), array)
            told = content.getvalue().replace(b"(64, 16, 16), }", f"{shape}, }}".encode().ljust(15))
            archive.writestr(f"{name}.npy", told)
    with pytest.raises(
        DataError,
        match=r"set\.npz: (needs arrays .*, of which there are 16,384|images must be uint8)",
    ):
        load(f"npz:{path}")
    assert not any(place.iterdir())


FULL = """
import resource, sys
from mobileprune.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_full_disk_is_said_with_the_way_out(kind: str, tmp_path: Path, place: Path) -> None:
    pytest.importorskip("resource", reason="only POSIX limits the size of files")
    images, name = pictures(200), f"npz:{tmp_path / 'set.npz'}"
    np.savez_compressed(tmp_path / "set.npz", images=images, labels=np.arange(200) % 2)
    if kind == "folder":
        name = folder_of(images, tmp_path / "set")
    command = [sys.executable, "-c", FULL, "train", "--dataset", name, "-o", "model", "--runs", "runs", "--quiet"]
    # What counts the lines that run has a file of its own to write, which the limit would meet too.
    counting = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    environment = {name: v for name, v in os.environ.items() if name not in counting} | {"TMPDIR": str(place)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"its decoded images do not fit into {place}: File too large after" in done.stderr
    assert "free some, or name a folder on another disk in TMPDIR" in done.stderr
    assert not any(place.iterdir())
    assert not (tmp_path / "model").exists()


def test_a_missing_place_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"set: its decoded images do not fit into .*absent: No such file"):
        on_disk("set", [b"x"])
