"""Where results of a verb may be written: said before an hour of work, not after."""

from __future__ import annotations

import shutil
from pathlib import Path

from mobileprune.artifact import MANIFEST, Artifact, check_output
from mobileprune.errors import ArtifactError, MobilepruneError, UsageError
from mobileprune.files import atomic_folder, clear_leftovers, is_free
from mobileprune.models.folder import RECORD, WEIGHTS, ModelFolder


def check_artifact_output(output: Path, force: bool) -> None:
    """Say that the output is taken before an hour of work, not after; an artifact there may turn out to be the same."""
    clear_leftovers(output)
    if force or not (output / MANIFEST).is_file():
        check_output(output, force=force)
        return
    try:
        Artifact.load(output)
    except ArtifactError as error:
        raise UsageError(f"{output} exists and is not a readable artifact ({error}); choose another -o") from error


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
