"""Artifact: a folder with one model file and ``manifest.json``. The format is specified in export/README.md.

Everything read here is untrusted: types, sizes and names are checked before any of it is used, and the
model file must have the SHA-256 that the manifest states.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mobileprune.atomic import atomic_folder, is_free
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.files import read_regular, sha256, write_json
from mobileprune.schemas import parse, problems

FORMAT = "mobileprune-artifact"
FORMAT_VERSION = 2
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
    precision: str
    storage: dict[str, Any]
    parity: dict[str, Any]
    lineage: dict[str, Any]
    created: str
    input_name: str = "input"
    output_name: str = "logits"
    format: str = field(default=FORMAT)
    format_version: int = field(default=FORMAT_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


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
        manifest = parse_manifest(manifest_path)
        model = path / manifest.file
        if not model.is_file() or model.is_symlink():
            raise ArtifactError(f"{model}: the manifest's model file is missing or a link; export again")
        size = model.stat().st_size
        if size != manifest.size_bytes:  # it takes no time to see, unlike the hash of what may be huge
            raise ArtifactError(
                f"{model}: has {size:,} bytes, the manifest says {manifest.size_bytes:,}; "
                "the file was altered or truncated: export again"
            )
        actual = sha256(model)
        if actual != manifest.sha256:
            raise ArtifactError(
                f"{model}: sha256 is {actual[:12]}…, the manifest says {manifest.sha256[:12]}…; "
                "the file was altered or truncated: export again"
            )
        return cls(path, manifest)


def parse_manifest(path: Path) -> Manifest:
    """Read and check every field; ArtifactError names what is wrong."""
    try:
        value = parse(read_regular(path, MAX_MANIFEST_BYTES))
        wrong = problems(value, "manifest")
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; not a manifest") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); export again") from error
    if isinstance(value, dict) and value.get("format") == FORMAT and value.get("format_version") != FORMAT_VERSION:
        found = str(value.get("format_version"))[:20]
        raise ArtifactError(f"{path}: format version {found}, this mobileprune reads {FORMAT_VERSION}")
    if not wrong and not len(value["mean"]) == len(value["std"]) == value["input_shape"][0]:
        wrong = [f"mean and std need one number for each of the {value['input_shape'][0]} channels"]
    if not wrong and not all(2.0**-126 <= abs(v) <= 3e38 for v in (*value["std"], *filter(None, value["mean"]))):
        wrong = ["mean and std must be numbers that float32 can hold"]
    if not wrong:
        wrong = list(_miscounted(value["sparsity"]))
    if wrong:
        raise ArtifactError(f"{path}: {'; '.join(wrong)}; see export/README.md, or export again")
    value["input_shape"] = [int(size) for size in value["input_shape"]]  # 2.0 is an integer in JSON
    value |= {name: int(value[name]) for name in ("num_classes", "size_bytes")}
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
    return Manifest(**fields)


def _miscounted(sparsity: dict[str, Any]) -> Iterator[str]:
    """Parts that are larger than their whole."""
    pairs = (("prunable_zeros", "prunable_total"), ("zero_channels", "channels"), ("all_zeros", "all_total"))
    for part, whole in pairs:
        if sparsity[part] > sparsity[whole]:
            yield f"sparsity/{part} is larger than {whole}"
    for name, layer in sparsity["layers"].items():
        if layer["zeros"] > layer["total"]:
            yield f"sparsity/layers/{name}: more zeros than weights"
            return


def _is_ours(path: Path) -> bool:
    """Other programs have a manifest.json too."""
    try:
        value = parse(read_regular(path / MANIFEST, MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("format") == FORMAT


def check_output(path: Path, *, force: bool) -> None:
    """UsageError unless an artifact may be written to ``path``; ``force`` replaces an artifact, nothing else."""
    if is_free(path):
        return
    if not _is_ours(path):
        raise UsageError(f"{path} exists and is not an artifact, which --force does not replace; choose another -o")
    if not force:
        raise UsageError(f"{path} exists; choose another -o or give --force to replace it")


def write_artifact(path: Path, model_file: Path, manifest: Manifest, *, force: bool = False) -> Artifact:
    """Copy ``model_file`` and the manifest to the new folder ``path`` in one atomic step."""
    check_output(path, force=force)
    with atomic_folder(path, replace=force) as temporary:
        shutil.copyfile(model_file, temporary / manifest.file)
        write_json(temporary / MANIFEST, asdict(manifest))
    return Artifact(path, manifest)
