"""Where results of a verb may be written: said before an hour of work, not after."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mobileprune.artifact import MANIFEST, Artifact, check_output
from mobileprune.atomic import atomic_folder, clear_leftovers, is_free
from mobileprune.errors import ArtifactError, MobilepruneError, UsageError
from mobileprune.models.folder import RECORD, WEIGHTS, ModelFolder
from mobileprune.option import flag

ALWAYS_LATER = ("split_sha256",)
"""In the parts of a lineage that are planned, but known only once there are data."""
NAMED = 4
"""Differences that a message names."""


def check_artifact_output(output: Path, force: bool, planned: Callable[[], Mapping[str, Any]]) -> None:
    """UsageError where an artifact surely cannot be written to ``output``; one there may turn out to be the same.

    ``planned``: what is known of the lineage of the one that is to be made. Asked only if one is there.
    """
    clear_leftovers(output)
    if force or not (output / MANIFEST).is_file():
        check_output(output, force=force)
        return
    try:
        there = Artifact.load(output).manifest
    except ArtifactError as error:
        raise UsageError(f"{output} exists and is not a readable artifact ({error}); choose another -o") from error
    if found := list(_differing(there.lineage, planned())):
        named = ", ".join([*found[:NAMED], *(["..."] if len(found) > NAMED else [])])
        raise UsageError(
            f"{output} exists and was made otherwise ({named}); choose another -o or give --force to replace it"
        )


def _differing(recorded: Mapping[str, Any], planned: Mapping[str, Any]) -> Iterator[str]:
    """Options and tools by which an artifact differs from what is planned."""
    for part, values in planned.items():
        there = recorded.get(part)
        if values is None or not isinstance(there, Mapping):
            if there != values:
                yield "pruned or not" if part == "prune" else part
            continue
        for key in dict.fromkeys((*values, *there)):
            if key not in ALWAYS_LATER and (key not in there or key not in values or there[key] != values[key]):
                yield f"version of {key}" if part == "versions" else flag(key)


def check_model_output(output: Path, force: bool) -> None:
    """UsageError unless a model folder may be written there."""
    if not is_free(output) and not (force and (output / RECORD).is_file()):
        raise UsageError(f"{output} exists; choose another -o, or give --force to replace a model folder")


def is_same(output: Path, made: Artifact) -> bool:
    """Whether the very artifact is there already."""
    try:
        return output.exists() and Artifact.load(output).manifest == made.manifest
    except MobilepruneError:
        return False


def copy_model(folder: ModelFolder, output: Path, force: bool) -> ModelFolder:
    """The model folder, copied in one atomic step."""
    check_model_output(output, force)
    with atomic_folder(output, replace=force) as temporary:
        for name in (WEIGHTS, RECORD):
            shutil.copyfile(folder.path / name, temporary / name)
    return ModelFolder.load(output)
