"""What a caller may give instead of an artifact, and which options can have an effect on it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict

from mobileprune.artifact import Artifact
from mobileprune.config import Effort, check_not_effort
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.foreign import models
from mobileprune.foreign.answers import checked_kind
from mobileprune.foreign.asking import of_asked
from mobileprune.foreign.models import Predict
from mobileprune.foreign.subject import Examined, of_outputs
from mobileprune.option import flag
from mobileprune.pipeline.context import Context


class ForeignModel(TypedDict, total=False):
    """What names a model that is not an artifact, beside a path: as the flags of ``attack`` and ``audit``."""

    predict: str | Predict | None
    outputs: str | Path | None
    kind: str | None
    mean: str | None
    std: str | None


def examine(
    path: Path | None, data: Mapping[str, Any], context: Context, effort: Effort, given: ForeignModel
) -> Examined | Path:
    """The attacks on a model file at ``path``, or on what else is ``given``; ``path`` where it is for an artifact.

    UsageError unless there is one of them, and for options that could have no effect on it.
    """
    stated = {name for name, value in given.items() if value is not None}
    check_not_effort(stated)
    predict, outputs, kind = given.get("predict"), given.get("outputs"), checked_kind(given.get("kind"))
    asked = path if predict is None else predict
    if (path is not None) + (predict is not None) + (outputs is not None) != 1:
        raise UsageError("give one of ARTIFACT (or a model file), --predict and --outputs")
    if path is not None and not models.is_file(path):
        if path.is_file():
            raise ArtifactError(
                f"{path}: neither an artifact nor a model file that can be run ({', '.join(models.TARGET_OF)}); wrap "
                "what runs it in a function (--predict)"
            )
        idle = stated | ({"image_size"} & set(data))
        _refuse(idle, f"{path} is for an artifact, whose manifest says how it is asked")
        return path
    if path is not None and not {"mean", "std"} & stated and _is_of_artifact(path):
        raise UsageError(
            f"{path} is the model of an artifact, whose manifest says how images are normalised for it: "
            f"give the folder {path.parent}, or --mean and --std"
        )
    _refuse(
        {"references", "jobs", "engine", "address", "versions"} & _changed(effort),
        "it is not known how this model came about",
    )
    if effort.access == "file":
        raise UsageError("--access file reads an artifact's weights; of this model there are only outputs to see")
    if asked is None:
        _refuse(({"mean", "std"} & stated) | set(data), "a table of outputs has its answers")
        return of_outputs(Path(str(outputs)), effort, kind)
    return of_asked(asked, data, context, effort, kind, mean=given.get("mean"), std=given.get("std"))


def _is_of_artifact(path: Path) -> bool:
    """Of one whose manifest is needed to ask it."""
    try:
        artifact = Artifact.load(path.parent)
    except ArtifactError:
        return False
    return artifact.model_path.name == path.name and not artifact.manifest.preprocessing_baked


def _changed(effort: Effort) -> set[str]:
    return {item.name for item in fields(Effort) if getattr(effort, item.name) != item.default}


def _refuse(options: Set[str], why: str) -> None:
    if options:
        raise UsageError(f"{', '.join(map(flag, sorted(options)))} would have no effect: {why}; leave it out")
