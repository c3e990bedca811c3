"""Small images, grey and in colour, as arrays and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
GREY, RGB = RNG.integers(0, 256, (6, 4, 5), np.uint8), RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
