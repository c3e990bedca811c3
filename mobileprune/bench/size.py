"""Size of a model file, as stored and as app stores ship it (DEFLATE)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobileprune.artifact import Artifact

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Size:
    """``nonzeros`` of ``weights`` are counted by the caller, who can read the format; None if unknown."""

    size_bytes: int
    deflated_bytes: int
    nonzeros: int | None = None
    weights: int | None = None


def artifact_size(artifact: Artifact) -> Size:
    """Of its file, with the weights that its manifest counts."""
    counts = artifact.manifest.sparsity
    total = int(counts["all_total"])
    return file_size(artifact.model_path, nonzeros=total - int(counts["all_zeros"]), weights=total)


def file_size(path: Path, *, nonzeros: int | None = None, weights: int | None = None) -> Size:
    """Bytes of the file and of its raw DEFLATE stream at level 9 (what a ZIP entry holds)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain = packed = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            plain += len(chunk)
            packed += len(packer.compress(chunk))
    return Size(plain, packed + len(packer.flush()), nonzeros, weights)
