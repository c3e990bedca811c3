"""The models that stand beside each other in an audit, asked with the same effort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.artifact import Artifact
from mobileprune.attacks import ATTACKS, References
from mobileprune.attacks.queries import VARIANTS
from mobileprune.config import Effort
from mobileprune.data.splits import Splits
from mobileprune.devices.session import Device
from mobileprune.engines import Engine
from mobileprune.errors import DataError
from mobileprune.evaluate.asking import PLAIN, Subject, answers, ask, of_artifact, of_source
from mobileprune.evaluate.on_device import OnDevice, of_device, on_device
from mobileprune.evaluate.relatives import Relatives
from mobileprune.pipeline.context import Context
from mobileprune.runtimes.device import DeviceRuntime
from mobileprune.shadows import references

LEARNED = tuple(
    kind for kind in VARIANTS if any({"references", kind} <= {*attack.needs} for attack in ATTACKS.values())
)
"""Kinds of changed copies that references are asked about too: those that an attack with references needs."""


def copies(effort: Effort) -> dict[str, int]:
    """Kind -> how many changed copies references are asked about."""
    return dict.fromkeys(LEARNED, effort.queries) if effort.queries > 1 else {}


def subjects(
    artifact: Artifact,
    relatives: Relatives,
    splits: Splits,
    context: Context,
    effort: Effort = PLAIN,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Subject]:
    """dense (where there is one), source (likewise) and artifact, the file that is judged.

    Each is attacked with references of its own kind; other versions serve against the file alone: that there
    are several is no matter of how this one was deployed.
    """
    known = _references(artifact, context, effort, overrides or {})
    versions = _versions(artifact, splits, context, effort)
    found = {}
    if relatives.baseline:
        baseline = of_artifact("dense", relatives.baseline, context)
        found["dense"] = ask(baseline, splits, context, effort, references=known.get("dense"))
    if relatives.source:
        source = of_source(relatives.source)
        found["source"] = ask(source, splits, context, effort, references=known.get("source"))
    file = of_artifact("artifact", artifact, context)
    found["artifact"] = ask(file, splits, context, effort, references=known.get("artifact"), versions=versions)
    return found


def asked_there(
    here: Subject,
    artifact: Artifact,
    splits: Splits,
    context: Context,
    effort: Effort,
    device: Device,
) -> tuple[Subject, OnDevice]:
    """The artifact as it answers on ``device`` with the same effort, and how that differs from its answers ``here``."""
    known = here.outputs.evidence
    with device.session() as session:
        runtime = DeviceRuntime(artifact, session, context.num_threads, device.cpus)
        file = of_device(artifact, context, runtime)
        there = ask(file, splits, context, effort, references=known.references, versions=known.versions)
        return there, on_device(there, here, runtime)


def _references(
    artifact: Artifact, context: Context, effort: Effort, overrides: dict[str, Any]
) -> dict[str, References]:
    """By subject: reference models that were exported, or asked through PyTorch, as the subject was."""
    if not effort.references:
        return {}
    engine = Engine(effort.engine, effort.jobs, effort.address)
    made = references(artifact, effort.references, overrides, context, engine, copies=copies(effort))
    return {
        name: References(found.examples, made.inside, found.test, found.variants)
        for name, found in made.answers.items()
    }


def _versions(artifact: Artifact, splits: Splits, context: Context, effort: Effort) -> NDArray[np.float64] | None:
    """Logits (V, N, K) of the other files that the attacker has; DataError for one of another model's data."""
    found = []
    for path in effort.versions:
        other = Artifact.load(Path(path))
        if other.manifest.lineage["data"]["split_sha256"] != splits.sha256():
            raise DataError(
                f"--versions {path}: was trained on other data than {artifact.path}; give files of one model"
            )
        found.append(answers(of_artifact("version", other, context), splits, context)[0])
    return np.stack(found) if found else None
