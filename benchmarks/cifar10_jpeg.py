"""CIFAR-10 re-encoded as JPEG of quality 75, stored as byte strings, made into a file for ``--dataset npz:PATH``.

    python benchmarks/cifar10_jpeg.py SOURCE.npz OUT.npz [--images 5000]

Say "CIFAR-10 (JPEG q75 copy)" of it: its pixels are not the original's.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from mobileprune.atomic import atomic_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="arrays train_jpeg, train_offsets, train_labels and class_names")
    parser.add_argument("output", type=Path)
    parser.add_argument("--images", type=int, default=5000, help="how many of the first training images")
    args = parser.parse_args()
    with np.load(args.source, allow_pickle=False) as stored:
        data, offsets = stored["train_jpeg"].tobytes(), stored["train_offsets"]
        labels, names = stored["train_labels"][: args.images].astype(np.int64), stored["class_names"]
    encoded = [data[offsets[i] : offsets[i + 1]] for i in range(len(labels))]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in encoded])
    with atomic_file(args.output) as temporary, temporary.open("wb") as file:
        np.savez(file, images=pixels, labels=labels, classes=names)
    print(f"{args.output}: {len(pixels)} images {pixels.shape[1:]}")


if __name__ == "__main__":
    main()
