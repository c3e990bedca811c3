"""One look at an artifact, or at a model file that somebody else made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileprune.artifact import Artifact, Manifest
from mobileprune.bench.size import file_size
from mobileprune.errors import ArtifactError
from mobileprune.files import sha256
from mobileprune.inspection.contents import Contents, Layer
from mobileprune.inspection.readers import READERS, contents_of

FROM_MANIFEST = (
    "layers and zeros are those that the manifest counts in the model that the file was made from; channels that were "
    "taken out count as zeros"
)


@dataclass(frozen=True)
class View:
    """``manifest`` is None for a model file without one."""

    path: Path
    file: Path
    sha256: str
    size_bytes: int
    deflated_bytes: int
    contents: Contents
    manifest: Manifest | None

    def to_dict(self) -> dict[str, Any]:
        """The manifest's fields, where there is one, and what the file itself says."""
        return {
            **(self.manifest.to_dict() if self.manifest else {}),
            "file": self.file.name,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "deflated_bytes": self.deflated_bytes,
            "contents": self.contents.to_dict(),
        }


def look(path: Path) -> View:
    """``path``: an artifact, verified against its manifest, or a model file. ArtifactError for anything else."""
    if path.is_file():
        if path.suffix not in READERS:
            raise ArtifactError(f"{path}: give an artifact's folder, or a file of type {', '.join(READERS)}")
        return _view(path, path, sha256(path), contents_of(path), None)
    artifact = Artifact.load(path)
    manifest = artifact.manifest
    told = contents_of(artifact.model_path, manifest.input_shape)
    recorded = manifest.sparsity.get("layers", {})
    if not told.layers and recorded:
        layers = tuple(Layer(name, tuple(x["shape"]), x["zeros"]) for name, x in recorded.items())
        told = replace(told, layers=layers, notes=(*told.notes, FROM_MANIFEST))
    return _view(path, artifact.model_path, manifest.sha256, told, manifest)


def _view(path: Path, file: Path, digest: str, told: Contents, manifest: Manifest | None) -> View:
    size = file_size(file)
    return View(path, file, digest, size.size_bytes, size.deflated_bytes, told, manifest)
