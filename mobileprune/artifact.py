"""Artifact: a folder with one model file and ``manifest.json``. The format is specified in export/README.md.

Everything read here is untrusted: types, sizes and names are checked before any of it is used, and the
model file must have the SHA-256 that the manifest states.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mobileprune.errors import ArtifactError, UsageError
from mobileprune.files import atomic_folder, sha256, write_json

FORMAT = "mobileprune-artifact"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 * 2**20
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says; ``input_shape`` is (C, H, W), the batch is dynamic."""

    target: str
    file: str
    sha256: str
    size_bytes: int
    input_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing_baked: bool
    labels: tuple[str, ...]
    sparsity: dict[str, Any]
    forms: tuple[str, ...]
    parity: dict[str, Any]
    lineage: dict[str, Any]
    created: str
    input_name: str = "input"
    output_name: str = "logits"
    format: str = field(default=FORMAT)
    format_version: int = field(default=FORMAT_VERSION)

    @property
    def dataset(self) -> dict[str, Any]:
        """How to get the audit's data again; empty for an artifact without lineage."""
        value = self.lineage.get("data")
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Artifact:
    path: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        return self.path / self.manifest.file

    @classmethod
    def load(cls, path: Path) -> Artifact:
        """Read and verify; ArtifactError says what is wrong with the folder."""
        manifest_path = path / MANIFEST
        if not manifest_path.is_file():
            raise ArtifactError(
                f"{path} is not an artifact: no {MANIFEST}; make one with `mobileprune export -o {path}`"
            )
        if manifest_path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{manifest_path}: larger than {MAX_MANIFEST_BYTES} bytes; not a manifest")
        try:
            value = json.loads(manifest_path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{manifest_path}: not valid JSON ({error}); export again") from error
        manifest = parse_manifest(value, manifest_path)
        model = path / manifest.file
        if not model.is_file() or model.is_symlink():
            raise ArtifactError(f"{model}: the manifest's model file is missing or a link; export again")
        actual = sha256(model)
        if actual != manifest.sha256:
            raise ArtifactError(
                f"{model}: sha256 is {actual[:12]}…, the manifest says {manifest.sha256[:12]}…; "
                "the file was altered or truncated: export again"
            )
        return cls(path, manifest)


def parse_manifest(value: Any, where: Path) -> Manifest:
    """Check every field; ArtifactError names all the wrong ones."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ArtifactError(f"{where}: 'format' must be {FORMAT!r}; this is not a mobileprune manifest")
    if value.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: format version {value.get('format_version')!r}, this mobileprune reads {FORMAT_VERSION}"
        )

    def numbers(item: Any, kinds: Any) -> bool:
        return isinstance(item, list) and all(
            isinstance(n, kinds) and not isinstance(n, bool) and math.isfinite(n) for n in item
        )

    def text(item: Any) -> bool:
        return isinstance(item, str)

    channels = value["input_shape"][0] if numbers(value.get("input_shape"), int) and value["input_shape"] else 0
    rules = {
        "target": text,
        "file": lambda v: text(v) and v == Path(v).name and v not in ("", ".", "..", MANIFEST) and "\\" not in v,
        "sha256": lambda v: text(v) and len(v) == 64 and set(v) <= set("0123456789abcdef"),
        "size_bytes": lambda v: isinstance(v, int) and v >= 0,
        "input_shape": lambda v: numbers(v, int) and len(v) == 3 and all(0 < n <= 8192 for n in v),
        "num_classes": lambda v: isinstance(v, int) and 1 <= v <= 1_000_000,
        "mean": lambda v: numbers(v, (int, float)) and len(v) == channels,
        "std": lambda v: numbers(v, (int, float)) and len(v) == channels and all(n > 0 for n in v),
        "preprocessing_baked": lambda v: isinstance(v, bool),
        "labels": lambda v: isinstance(v, list) and all(map(text, v)),
        "sparsity": lambda v: isinstance(v, dict),
        "forms": lambda v: isinstance(v, list) and all(map(text, v)),
        "parity": lambda v: isinstance(v, dict),
        "lineage": lambda v: isinstance(v, dict),
        "created": text,
        "input_name": text,
        "output_name": text,
    }
    wrong = [name for name, rule in rules.items() if name not in value or not rule(value[name])]
    if wrong:
        raise ArtifactError(f"{where}: missing or malformed: {', '.join(wrong)}; see export/README.md, or export again")
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v := value[name], list) else v for name in rules}
    return Manifest(**fields)


def write_artifact(path: Path, model_file: Path, manifest: Manifest, *, force: bool = False) -> Artifact:
    """Copy ``model_file`` and the manifest to the new folder ``path`` in one atomic step."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists; choose another -o or give --force to replace it")
    if path.exists() and not (path / MANIFEST).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} is not an artifact, so --force does not replace it; choose another -o")
    with atomic_folder(path, replace=force) as temporary:
        shutil.copyfile(model_file, temporary / manifest.file)
        write_json(temporary / MANIFEST, asdict(manifest))
    return Artifact(path, manifest)
