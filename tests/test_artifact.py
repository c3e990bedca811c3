"""Artifacts are untrusted: whatever is wrong with the folder is an ArtifactError, and writing is all or nothing."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mobileprune.artifact import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Artifact,
    Manifest,
    check_output,
    parse_manifest,
    write_artifact,
)
from mobileprune.config import ExportConfig, PruneConfig, TrainConfig
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.schemas import document

MODEL = b"not a real model, but a file with a hash"
SHA = hashlib.sha256(MODEL).hexdigest()


def manifest() -> Manifest:
    data = {"dataset": "digits", "members": 5, "canaries": 0.1, "seed": 0, "split_sha256": SHA}
    train = asdict(TrainConfig(epochs=1, lr=0.1, batch_size=2))
    prune = asdict(PruneConfig(sparsity=0.5, prune_epochs=1, retrain_epochs=1))
    export = asdict(ExportConfig())
    layer = {"shape": [1], "total": 1, "zeros": 0}
    return Manifest(
        target="onnx",
        file="model.onnx",
        sha256=SHA,
        size_bytes=len(MODEL),
        input_shape=(1, 28, 28),
        num_classes=2,
        mean=(0.5,),
        std=(0.25,),
        preprocessing_baked=False,
        labels=("cat", "dög"),
        sparsity={
            "prunable_zeros": 0,
            "prunable_total": 1,
            "zero_channels": 0,
            "channels": 1,
            "all_zeros": 0,
            "all_total": 1,
            "layers": {"fc": layer},
            "left_dense": {"conv": "3 input channels"},
        },
        precision="fp32",
        storage={
            "form": "dense",
            "why": "asked for",
            "sizes": {"dense": 5},
            "bound_bytes": 4,
            "weight_bytes": None,
            "kernels": {"by": "native", "why": "by rule", "ratio": None, "layers": []},
        },
        parity={
            "inputs": 1,
            "unstable": 0,
            "max_difference": 0.0,
            "mean_difference": 0.0,
            "top1_agreement": 1.0,
            "atol": 1e-4,
            "rtol": 1e-4,
            "min_agreement": None,
        },
        lineage={
            "data": data,
            "train": train,
            "prune": prune,
            "export": export,
            "weights_sha256": SHA,
            "dense_weights_sha256": None,
            "held_out_unseen": True,
            "differential_privacy": {"epsilon": 8.0, "delta": 1e-5, "noise_multiplier": 1.1, "max_grad_norm": 1.0},
            "removed_channels": 0,
            "versions": {"torch": "2"},
        },
        created="2026-01-01T00:00:00Z",
    )


def valid() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(asdict(manifest())))
    return value


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(MODEL)
    return tmp_path / "source"


@pytest.fixture
def folder(tmp_path: Path, model_file: Path) -> Path:
    return write_artifact(tmp_path / "artifact", model_file, manifest()).path


def refused(folder: Path, value: Any, match: str | None = None) -> None:
    text = value if isinstance(value, str | bytes) else json.dumps(value)
    (folder / MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ArtifactError, match=match):
        Artifact.load(folder)


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    artifact = Artifact.load(folder)
    assert artifact.manifest == manifest()
    assert artifact.model_path.read_bytes() == MODEL
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, "model.onnx"]


Place = tuple[str, ...]


def fields(schema: dict[str, Any], path: Place = ()) -> Iterator[tuple[Place, dict[str, Any], bool]]:
    """Every property of the manifest's schema, at every depth, with its schema and whether it must be there."""
    if "$ref" in schema:
        yield from fields(document()["$defs"][schema["$ref"].rsplit("/", 1)[1]], path)
        return
    for option in schema.get("anyOf", []):
        yield from fields(option, path)
    for name, part in schema.get("properties", {}).items():
        yield (*path, name), part, name in schema.get("required", [])
        yield from fields(part, (*path, name))


FIELDS = {path: part for path, part, _ in fields({"$ref": "#/$defs/manifest"})}
OPTIONAL = sorted(path for path, _, required in fields({"$ref": "#/$defs/manifest"}) if not required)


def changed(path: tuple[str, ...], *value: Any) -> dict[str, Any]:
    """A valid manifest with the field at ``path`` replaced by the value, or removed without one."""
    whole = valid()
    place = whole
    for name in path[:-1]:
        place = place[name]
    place.pop(path[-1], None)
    if value:
        place[path[-1]] = copy.copy(value[0])
    return whole


def wrong(schema: dict[str, Any]) -> list[Any]:
    """Values of other types than the schema's; ``0.5`` is wrong for integers and -1 for most numbers."""
    if "$ref" in schema:
        return wrong(document()["$defs"][schema["$ref"].rsplit("/", 1)[1]])
    if "anyOf" in schema:
        return [v for v in wrong(schema["anyOf"][0]) if v is not None]
    if "const" in schema or "enum" in schema:
        return [None, "other", 7, [], {}]
    every: dict[str, Any] = {"string": "other", "integer": 7, "number": 0.5, "boolean": True, "array": [], "object": {}}
    fits = {"number": {"number", "integer"}}.get(schema["type"], {schema["type"]})
    return [
        None,
        *(v for kind, v in every.items() if kind not in fits),
        *([[None]] if schema["type"] == "array" else []),
    ]


def test_the_walk_reaches_every_depth() -> None:
    assert {("file",), ("parity", "atol"), ("lineage", "prune", "defense"), ("sparsity", "layers")} < set(FIELDS)
    assert len(FIELDS) > 50


@pytest.mark.parametrize("path", FIELDS, ids="/".join)
def test_a_missing_or_malformed_field_is_refused(folder: Path, path: tuple[str, ...]) -> None:
    place = "format" if path == ("format_version",) else path[min(1, len(path) - 1)]
    if path not in OPTIONAL:
        refused(folder, changed(path), place)
    for value in wrong(FIELDS[path]):
        refused(folder, changed(path, value), "format" if path[0] == "format" else place)


@pytest.mark.parametrize("path", OPTIONAL, ids="/".join)
def test_an_optional_field_may_be_missing(folder: Path, path: tuple[str, ...]) -> None:
    (folder / MANIFEST).write_text(json.dumps(changed(path)))
    assert path[-1] not in getattr(Artifact.load(folder).manifest, path[0])


@pytest.mark.parametrize("place", sorted({path[:-1] for path in FIELDS}), ids="/".join)
def test_an_unknown_field_is_refused(folder: Path, place: tuple[str, ...]) -> None:
    refused(folder, changed((*place, "unknown"), 1), "prune" if "prune" in place else "unknown")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sha256",), SHA.upper()),
        (("sha256",), SHA[:-1]),
        (("sha256",), SHA + "\n"),
        (("size_bytes",), -1),
        (("input_shape",), [1, 28]),
        (("input_shape",), [1, 28, 0]),
        (("input_shape",), [1, 28, 8193]),
        (("input_shape",), [1, 28, "28"]),
        (("input_shape",), [3, 28, 28]),
        (("num_classes",), 1),
        (("num_classes",), 10**7),
        (("mean",), [0.5, 0.5]),
        (("mean",), [10**400]),
        (("mean",), [1e300]),
        (("std",), [0.0]),
        (("std",), [1e-300]),
        (("std",), [-1.0]),
        (("std",), []),
        (("labels",), [1]),
        (("labels",), ["half of a pair: \ud800", "dog"]),
        (("created",), "\udfff"),
        (("size_bytes",), 10**400),
        (("sparsity", "prunable_zeros"), 10**400),
        (("sparsity", "prunable_total"), 10**4000),
        (("sparsity", "prunable_zeros"), 2),
        (("sparsity", "all_zeros"), 1e308),
        (("sparsity", "zero_channels"), 2),
        (("sparsity", "layers"), {"fc": {"shape": [1], "total": 1, "zeros": 2}}),
        (("format_version",), 1),
        (("format_version",), True),
        (("parity", "top1_agreement"), 1.5),
        (("lineage", "prune", "sparsity"), 1.0),
        (("sparsity", "layers"), {"fc": {"shape": [1], "total": 1}}),
    ],
    ids=lambda v: "/".join(v) if isinstance(v, tuple) else repr(v)[:12],
)
def test_values_out_of_range_are_refused(folder: Path, path: tuple[str, ...], value: Any) -> None:
    refused(folder, changed(path, value))


@pytest.mark.parametrize(("field", "value"), [("num_classes", 2.0), ("input_shape", [1.0, 28.0, 28.0])])
def test_whole_numbers_written_as_fractions_are_refused_or_become_integers(
    folder: Path, field: str, value: Any
) -> None:
    (folder / MANIFEST).write_text(json.dumps(changed((field,), value)))
    with suppress(ArtifactError):
        loaded = getattr(Artifact.load(folder).manifest, field)
        assert {type(v) for v in (loaded if isinstance(loaded, tuple) else [loaded])} == {int}


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "",
        ".",
        "..",
        MANIFEST,
        "m\n",
        "m\0",
        "-m",
        ".m",
        "m" * 101,
    ],
)
def test_a_file_name_that_could_lead_elsewhere_is_refused(folder: Path, name: str) -> None:
    refused(folder, changed(("file",), name), "file: ")


def test_a_symbolic_link_as_model_is_refused(folder: Path, model_file: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(model_file)
    with pytest.raises(ArtifactError, match="missing or a link"):
        Artifact.load(folder)


@pytest.mark.parametrize("content", [MODEL[:-1], b"", MODEL + b"\0", MODEL.swapcase()])
def test_a_file_with_another_hash_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"(sha256 is|has \d+ bytes).* altered or truncated"):
        Artifact.load(folder)


def test_a_huge_file_is_refused_for_its_size_before_it_is_read(folder: Path) -> None:
    os.truncate(folder / "model.onnx", 2**40)  # nothing is stored of it; to hash it would take an hour
    with pytest.raises(ArtifactError, match="has 1,099,511,627,776 bytes"):
        Artifact.load(folder)


def test_a_named_pipe_is_no_part_of_an_artifact(folder: Path) -> None:
    """Nobody writes to it: to open it as a file would wait for ever."""
    for name, what in (("model.onnx", "missing or a link"), (MANIFEST, "not an artifact")):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ArtifactError, match=what):
            Artifact.load(folder)
    with pytest.raises(ArtifactError, match="not a regular file"):
        parse_manifest(folder / MANIFEST)
    with pytest.raises(UsageError, match="is not an artifact"):
        check_output(folder, force=True)


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"not an artifact: no manifest\.json"):
        Artifact.load(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="not an artifact"):
        Artifact.load(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Artifact.load(folder)
    (folder / "model.onnx").mkdir()
    with pytest.raises(ArtifactError, match="missing"):
        Artifact.load(folder)


TEXT = json.dumps(valid())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"manifest"',
        TEXT[:-1],
        TEXT + "x",
        TEXT.replace("[0.5]", "[NaN]"),
        TEXT.replace("[0.5]", "[1e999]"),
        TEXT.replace("[0.5]", "[-Infinity]"),
        TEXT.replace("[0.5]", f"[{'9' * 5000}]"),
        TEXT.encode("utf-16")[:-1],
        b"\xff" + TEXT.encode(),
        "[" * 100_000,
        b" " * (MAX_MANIFEST_BYTES + 1),
    ],
    ids=range(14),
)
def test_what_is_not_a_json_manifest_is_refused(folder: Path, text: str | bytes) -> None:
    refused(folder, text)


@pytest.mark.parametrize("pattern", ["%s", '{"labels": %s}', '{"sparsity": %s}'])
def test_nesting_of_any_depth_is_refused(folder: Path, pattern: str) -> None:
    for depth in range(700, 1100):
        refused(folder, pattern % ("[" * depth + "]" * depth))


def test_force_replaces_an_artifact_and_nothing_else_does(folder: Path, model_file: Path) -> None:
    other = replace(manifest(), created="2027-01-01T00:00:00Z")
    with pytest.raises(UsageError, match="--force"):
        write_artifact(folder, model_file, other)
    assert Artifact.load(folder).manifest == manifest()
    write_artifact(folder, model_file, other, force=True)
    assert Artifact.load(folder).manifest == other


@pytest.mark.parametrize(
    "content", [{"thesis.txt": ""}, {"thesis.txt": "", MANIFEST: '{"name": "a browser extension"}'}]
)
def test_force_keeps_folders_that_are_not_artifacts(tmp_path: Path, model_file: Path, content: dict[str, str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in content.items():
        (mine / name).write_text(text)
    with pytest.raises(UsageError, match="not an artifact"):
        write_artifact(mine, model_file, manifest(), force=True)
    assert {p.name: p.read_text() for p in mine.iterdir()} == content


def test_force_keeps_files_and_may_fill_an_empty_folder(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(UsageError, match="not an artifact"):
        write_artifact(model_file, model_file, manifest(), force=True)
    assert model_file.read_bytes() == MODEL
    (tmp_path / "empty").mkdir()
    write_artifact(tmp_path / "empty", model_file, manifest(), force=True)
    assert Artifact.load(tmp_path / "empty").manifest == manifest()


def test_a_write_that_fails_leaves_everything_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    for place, force in ((tmp_path / "new", False), (folder, True)):
        with pytest.raises(FileNotFoundError):
            write_artifact(place, tmp_path / "missing", manifest(), force=force)
        with pytest.raises(ValueError, match="JSON"):
            write_artifact(place, folder / "model.onnx", replace(manifest(), mean=(float("nan"),)), force=force)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert Artifact.load(folder).manifest == manifest()
