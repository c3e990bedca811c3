"""Arrays of ``.npz`` files: what numpy wrote comes back, and no header makes the reader take what is not there."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from mobileprune.data import load
from mobileprune.data.npz import MAX_HEADER_BYTES, members
from mobileprune.errors import DataError
from mobileprune.foreign import tables


def member(header: str, content: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + b"\n" + content


def array(shape: str, kind: str = "<i8", content: bytes = b"") -> bytes:
    return member(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", content)


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in contents.items():
            file.writestr(name.replace("_npy", "") if name.endswith("_npy") else f"{name}.npy", content)
    return path


@given(
    arrays(scalar_dtypes(), array_shapes(min_dims=0, min_side=0)),
    st.sampled_from([np.savez, np.savez_compressed]),
    st.sampled_from("CF"),
)
def test_what_numpy_wrote_comes_back(tmp_path_factory: pytest.TempPathFactory, values, save, order: str) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    save(path, a=np.asarray(values, order=order))
    with members(path, "wrong") as file:
        found = file["a"].array()
        assert "b" not in file
    np.testing.assert_array_equal(found, values)
    assert (found.dtype, found.shape, found.flags.writeable) == (values.dtype, values.shape, True)


IMAGES = array("(4, 2, 2)", "|u1", bytes(16))
LABELS = array("(4,)", "<i8", np.array([0, 1, 0, 1]).tobytes())
HOSTILE: dict[str, tuple[dict[str, bytes], str]] = {
    "728 TiB of labels": ({"labels": array("(100000000000000,)")}, "labels claims 800,000,000,000,000 bytes, of which"),
    "a negative number of labels": ({"labels": array("(-1,)")}, r"labels has shape \(-1,\)"),
    "names of 4 GB": ({"classes": array("(100,)", "<U1000000000")}, "needs arrays"),
    "names of 40 kB": ({"classes": array("(1,)", "<U10000", bytes(40_000))}, "names of at most 4,096 bytes"),
    "names that are no text": ({"classes": array("(2,)", "<U1", b"\xff" * 8)}, "needs arrays"),
    "half a letter": ({"classes": array("(2,)", "<U1", b"\0\xd8\0\0" * 2)}, "surrogates not allowed"),
    "a name of no class": ({"classes": array("()", "<U1", b"a\0\0\0")}, "classes must be at most 1,000,000 names"),
    "membership of everybody": ({"member": array("(100000000000000,)", "|b1")}, "member claims"),
    "images without height": ({"images": array("(4, 0, 2)", "|u1")}, r"images must be uint8 .* got uint8 \(4, 0, 2\)"),
    "True images": ({"images": array("(True, True, True)", "|u1", b"1")}, "images has shape"),
    "records": ({"labels": member("{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (0,), }")}, "or records"),
    "no end of a text": ({"labels": member("{'descr': '''")}, "EOF in multi-line string"),
    "brackets": ({"labels": member("[" * 4000 + "]" * 4000)}, "needs arrays"),
    "a long header": ({"labels": member("x" * MAX_HEADER_BYTES, version=2)}, "EOF: reading array header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_lies(tmp_path: Path, case: str) -> None:
    changes, words = HOSTILE[case]
    path = archive(tmp_path / "set.npz", **{"images": IMAGES, "labels": LABELS, **changes})
    with pytest.raises(DataError, match=rf"set\.npz: .*{words}"):
        load(f"npz:{path}")


def test_what_is_of_no_use_is_not_unpacked(tmp_path: Path) -> None:
    labels = array(f"({2**23},)", "<i8", bytes(2**26))
    path = archive(tmp_path / "set.npz", zipfile.ZIP_DEFLATED, images=IMAGES, labels=labels)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"labels must be 4 integers, got int64 \(8388608,\)"):
            load(f"npz:{path}")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_as_numpy_does_not(tmp_path: Path, compression: int) -> None:
    path = archive(tmp_path / "set.npz", compression, images=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match="images is compressed as numpy does not"):
        load(f"npz:{path}")


def test_only_arrays_count(tmp_path: Path) -> None:
    """numpy gives a record called ``outputs`` for the array of that name."""
    columns = {
        "labels": array("(40,)", "<i8", bytes(320)),
        "member": array("(40,)", "|b1", bytes([0, 1] * 20)),
        "outputs": array("(40, 2)", "<f8", np.arange(80.0).tobytes()),
    }
    path = archive(tmp_path / "t.npz", **columns, outputs_npy=b"junk")
    assert tables.read(path).logits.shape == (40, 2)
