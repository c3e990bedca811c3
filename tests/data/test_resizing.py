"""Images of many sizes are brought to one, as torchvision does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import write

from mobileprune.data import folder, load
from mobileprune.errors import DataError
from mobileprune.torchvision_import import torchvision

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
