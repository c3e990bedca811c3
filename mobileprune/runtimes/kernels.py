"""Whose kernels compute the sparse layers of an ONNX file: those of the native library where it is, else stock ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mobileprune import __version__, native
from mobileprune.artifact import Artifact
from mobileprune.errors import MobilepruneError, one_line
from mobileprune.files import sha256

BASES = (b"SparseConv", b"SparseGemm")
"""What the names of all its operators begin with (:mod:`mobileprune.sparse_operators`)."""


@dataclass(frozen=True)
class KernelsUsed:
    """``native``: the library's, whose file has the SHA-256 ``library``; else ``why`` not."""

    native: bool
    library: str | None
    why: str

    @property
    def sentence(self) -> str:
        if self.native:
            return f"its sparse layers ran on {self.why}"
        return f"its sparse layers ran on ONNX Runtime's dense kernels, not on mobileprune's: {self.why}"


def calls_operators(content: bytes) -> bool:
    """Whether an ONNX file may call operators of the library: asked of its bytes, which are parsed in a child first."""
    return any(base in content for base in BASES)


def register(settings: Any, content: bytes) -> None:
    """Have ONNX Runtime use the library for ``content``, where it is needed and there.

    MobilepruneError when it is there and ONNX Runtime refuses it: kernels are never exchanged in silence.
    """
    library = native.library() if calls_operators(content) else None
    if library is None:
        return
    try:
        settings.register_custom_ops_library(str(library))
    except Exception as error:  # the runtime's exceptions have no common base below Exception
        raise MobilepruneError(
            f"ONNX Runtime refuses the native library {library.name} ({one_line(error)}); "
            "install mobileprune again, or set MOBILEPRUNE_NATIVE=off to run without it"
        ) from error


def library_sha256() -> str | None:
    """What answers of sparse layers depend on beside the file; None without the library."""
    library = native.library()
    return None if library is None else sha256(library)


def kernels_used(artifact: Artifact) -> KernelsUsed | None:
    """By a session of ``artifact`` here; None for a file that has nothing for the library."""
    if artifact.manifest.target != "onnx" or not calls_operators(artifact.model_path.read_bytes()):
        return None
    library = library_sha256()
    if library is None:
        return KernelsUsed(False, None, native.reason())
    return KernelsUsed(True, library, f"native kernels of mobileprune {__version__}")
