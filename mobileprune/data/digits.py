"""The embedded default: scikit-learn's 1,797 handwritten digits, no download (UCI, Alpaydin & Kaynak)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mobileprune.data.images import Images

SIZE = 28  # LeNet-5's usual input; the originals are 8x8 with 17 grey levels


def load_digits(data_dir: Path | None = None) -> Images:
    from sklearn import datasets

    digits = datasets.load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in small]
    return Images(
        "digits", np.stack(large)[:, None], digits.target.astype(np.int64), tuple(str(c) for c in digits.target_names)
    )
