"""Joins an artifact with the data of its lineage and asks it, its source and the dense baseline the same questions.

What is attacked is the exported file through its runtime; the source is asked through PyTorch only to have
something to hold the file against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.artifact import Artifact
from mobileprune.attacks import ATTACKS, Evidence, Group, Outputs, Population, Scores, score
from mobileprune.audit.compare import Measurement, measure
from mobileprune.audit.verdict import Policy, Verdict, judge
from mobileprune.config import Config, ExportConfig
from mobileprune.convert.harden import NONE, hardening
from mobileprune.data.splits import Splits
from mobileprune.errors import DataError
from mobileprune.export.target import DENSE
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export, source_logits
from mobileprune.pipeline.inputs import data_from_lineage, pixels, splits_of
from mobileprune.pipeline.train import find_model
from mobileprune.runtimes import open_runtime
from mobileprune.tensors import load, save

MEMBERSHIP_UNKNOWN = (
    "it is not known what the checkpoint was trained on, so held-out images may be members; "
    "let the data state it (members/ and nonmembers/ in folder:PATH, or 'member' in npz:PATH)"
)
MANY_UNSTABLE = 0.05
LOGITS = "logits.safetensors"
Predict = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Subject:
    """One model's answers. ``name``: dense (exported baseline), source (PyTorch, pruned) or artifact (the file)."""

    name: str
    outputs: Outputs
    scores: Scores
    test_accuracy: float


@dataclass(frozen=True)
class SubjectResult:
    name: str
    accuracy: dict[str, float]
    measurements: dict[Group, dict[str, Measurement]]

    def to_dict(self) -> dict[str, Any]:
        measured = {g: {a: m.to_dict() for a, m in by_attack.items()} for g, by_attack in self.measurements.items()}
        return {"accuracy": self.accuracy, "measurements": measured}


@dataclass(frozen=True)
class AttackResult:
    """Every attack on every subject there is; ``notes`` say which are missing and why."""

    artifact: Artifact
    data: dict[str, Any]
    subjects: dict[str, SubjectResult]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "artifact_sha256": self.artifact.manifest.sha256,
            "target": self.artifact.manifest.target,
            "data": self.data,
            "subjects": {name: subject.to_dict() for name, subject in self.subjects.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class AuditResult:
    attack: AttackResult
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        return {**self.attack.to_dict(), "verdict": self.verdict.to_dict()}


@dataclass(frozen=True)
class Relatives:
    """The pruned PyTorch source and the exported dense baseline, where they can be found.

    Neither is hardened, nor has fewer bits than float32, whatever the artifact is: they stand for what was before.
    """

    source: ModelFolder | None
    baseline: Artifact | None


def config_of(artifact: Artifact, overrides: dict[str, Any]) -> Config:
    """The configuration of the artifact's data, from its lineage; ``overrides`` (dataset, data_dir) replace parts."""
    recorded = artifact.manifest.lineage["data"]
    return Config(data=data_from_lineage(recorded, overrides), seed=recorded["seed"])


def audit_data(artifact: Artifact, overrides: dict[str, Any]) -> Splits:
    """The very split that the artifact was trained on; DataError when it cannot be had again."""
    recorded = artifact.manifest.lineage["data"]
    splits = splits_of(config_of(artifact, overrides))
    if splits.sha256() != recorded["split_sha256"]:
        raise DataError(
            f"{splits.images.name} is not what {artifact.path} was trained on ({recorded['dataset']}, split "
            f"{recorded['split_sha256'][:12]}…, not {splits.sha256()[:12]}…); "
            "say where it is with --dataset and --data-dir"
        )
    return splits


def relatives(artifact: Artifact, overrides: dict[str, Any], context: Context) -> Relatives:
    """Look the relatives up in the run store by the hashes of the manifest."""
    lineage = artifact.manifest.lineage
    split, dense_sha256 = lineage["data"]["split_sha256"], lineage["dense_weights_sha256"]
    source = find_model(context.store, lineage["weights_sha256"], split)
    dense = find_model(context.store, dense_sha256, split) if dense_sha256 else None
    if dense is None:
        return Relatives(source, None)
    same_way = replace(ExportConfig(**lineage["export"]), harden=NONE, precision="fp32", sparse_format=DENSE)
    return Relatives(source, export(dense, replace(config_of(artifact, overrides), export=same_way), context))


def ask(name: str, identity: dict[str, Any], predict: Predict, splits: Splits, context: Context) -> Subject:
    """Logits on members, held-out and test images; kept in the run store under ``identity``."""
    parts = {"members": splits.members, "held_out": splits.held_out, "test": splits.test}

    def compute(folder: Path, partial: Path) -> None:
        logits = {part: np.asarray(predict(pixels(splits, i)), np.float64) for part, i in parts.items()}
        save({part: torch.from_numpy(values) for part, values in logits.items()}, folder / LOGITS)

    step = context.store.step("query", {**identity, "split": splits.sha256()}, compute)
    logits = {part: tensor.numpy() for part, tensor in load(step.path / LOGITS)[0].items()}
    asked = np.concatenate([splits.members, splits.held_out])
    evidence = Evidence(
        np.concatenate([logits["members"], logits["held_out"]]),
        splits.labels[asked],
        population=Population(logits["test"], splits.labels[splits.test], splits.images.pixels[splits.test]),
        images=splits.images.pixels[asked],
    )
    outputs = Outputs(evidence, np.arange(len(asked)) < len(splits.members), splits.canary[asked])
    correct = logits["test"].argmax(1) == splits.labels[splits.test]
    return Subject(name, outputs, score(outputs, ATTACKS), float(correct.mean()))


def ask_artifact(name: str, artifact: Artifact, splits: Splits, context: Context) -> Subject:
    manifest = artifact.manifest
    identity = {
        "artifact": manifest.sha256,
        "target": manifest.target,
        "preprocessing": [manifest.preprocessing_baked, list(manifest.mean), list(manifest.std)],
    }
    return ask(name, identity, lambda x: open_runtime(artifact, context.num_threads).predict(x), splits, context)


def subjects(artifact: Artifact, kin: Relatives, splits: Splits, context: Context) -> dict[str, Subject]:
    found = {}
    if kin.baseline:
        found["dense"] = ask_artifact("dense", kin.baseline, splits, context)
    source = kin.source
    if source:
        identity = {"weights": source.weights_sha256, "code": code_digest(source.info.model)}
        found["source"] = ask("source", identity, lambda x: source_logits(source, x), splits, context)
    found["artifact"] = ask_artifact("artifact", artifact, splits, context)
    return found


def result(artifact: Artifact, splits: Splits, asked: dict[str, Subject]) -> AttackResult:
    """Every attack on the answers of ``asked``."""
    measured = {}
    for name, subject in asked.items():
        accuracy = {
            "test": subject.test_accuracy,
            "members": subject.outputs.accuracy(member=True),
            "held_out": subject.outputs.accuracy(member=False),
        }
        measured[name] = SubjectResult(name, accuracy, measure(subject.scores))
    data = {
        "name": splits.images.name,
        "split_sha256": splits.sha256(),
        "membership": splits.membership,
        "counts": splits.counts(),
    }
    return AttackResult(artifact, data, measured, tuple(_notes(artifact, splits, asked)))


def _notes(artifact: Artifact, splits: Splits, asked: dict[str, Subject]) -> Iterator[str]:
    missing = {"dense": "the dense baseline", "source": "the PyTorch source"}
    for name, words in missing.items():
        if name not in asked:
            yield f"{words} is not in the run store, so nothing is held against it"
    yield from _hardening_notes(artifact)
    if not artifact.manifest.lineage["held_out_unseen"]:
        yield MEMBERSHIP_UNKNOWN
    if splits.canary.any():
        count = int(splits.canary[splits.members].sum())
        yield f"{count} members carry a wrong label on purpose (canaries): train with --canaries 0 what you ship"


def _hardening_notes(artifact: Artifact) -> Iterator[str]:
    spec, parity = artifact.manifest.lineage["export"]["harden"], artifact.manifest.parity
    if found := hardening(spec):
        yield (
            f"the file's outputs are hardened by {spec}: {found[0].caveat}; whoever has the file can cut this last "
            "layer off and then sees what the PyTorch source shows"
        )
    if parity["unstable"] > MANY_UNSTABLE * parity["inputs"]:
        yield (
            f"{parity['unstable']} of {parity['inputs']} parity inputs lie at an edge of the hardening, where "
            "parity accepted the outputs of either side"
        )


def verdict(artifact: Artifact, asked: dict[str, Subject], policy: Policy) -> Verdict:
    source = asked.get("source")
    unsure = None if artifact.manifest.lineage["held_out_unseen"] else MEMBERSHIP_UNKNOWN
    return judge(asked["artifact"].scores, source.scores if source else None, policy, unsure=unsure)
