"""Asks a model about members and non-members, as far as the attacker's effort goes, and has it attacked.

Every answer is a step of the run store: the same file is never asked the same twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.artifact import Artifact
from mobileprune.attacks import (
    ATTACKS,
    Access,
    Evidence,
    Outputs,
    Population,
    References,
    Scores,
    queries,
    score,
    seen,
)
from mobileprune.attacks.queries import MOVES, VARIANTS
from mobileprune.config import Effort
from mobileprune.data.splits import Splits
from mobileprune.errors import ArtifactError, TargetUnavailableError
from mobileprune.lazy import Sliced
from mobileprune.models import code_digest
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import pixels
from mobileprune.pipeline.parity import source_logits
from mobileprune.runtimes import kernels_used, open_runtime
from mobileprune.runtimes.gradients import gradient_norms
from mobileprune.tensors import load, save

ANSWERS = "logits.safetensors"
Predict = Callable[[Sliced[np.float32]], NDArray[Any]]
PLAIN = Effort()
SAID = {
    "dense": "dense baseline",
    "source": "PyTorch source",
    "artifact": "exported file",
    "version": "another version",
}
ONE_ANSWER = {"members", "held_out", "test"}
HARDENED: dict[str, Access] = {"label-only": "labels", "topk": "top-k"}


@dataclass(frozen=True)
class Subject:
    """One model's answers. ``name``: dense (exported baseline), source (PyTorch, pruned) or artifact (the file).

    ``right`` of the ``tested`` test images it classifies as they are labelled.
    """

    name: str
    outputs: Outputs
    scores: Scores
    right: int
    tested: int

    @property
    def test_accuracy(self) -> float:
        """NaN where there are no test images."""
        return self.right / self.tested if self.tested else math.nan


@dataclass(frozen=True)
class Asked:
    """Who is asked: ``identity`` names it in the run store; ``file`` if it is one; ``shows``: the most it tells;
    ``said``: what progress calls it."""

    name: str
    identity: dict[str, Any]
    predict: Predict
    file: Artifact | None = None
    shows: Access = "logits"
    said: str = ""


def of_artifact(name: str, artifact: Artifact, context: Context) -> Asked:
    manifest = artifact.manifest
    identity: dict[str, Any] = {
        "artifact": manifest.sha256,
        "target": manifest.target,
        "preprocessing": [manifest.preprocessing_baked, list(manifest.mean), list(manifest.std)],
    }
    if used := kernels_used(artifact):  # other kernels give other last digits
        identity["kernels"] = used.library
    runtime = lru_cache(maxsize=1)(lambda: open_runtime(artifact, context.num_threads))
    return Asked(name, identity, lambda x: runtime().predict(x), artifact, _shown(artifact), SAID[name])


def _shown(artifact: Artifact) -> Access:
    """The most that the file's outputs tell: hardening is a layer that whoever has the file can cut off."""
    kind = artifact.manifest.lineage["export"]["harden"].partition(":")[0]
    return HARDENED.get(kind, "logits")


def of_source(folder: ModelFolder) -> Asked:
    identity = {
        "weights": folder.weights_sha256,
        "info": asdict(folder.info),
        "code": code_digest(folder.info.model),
    }
    return Asked("source", identity, lambda x: source_logits(folder, x), said=SAID["source"])


def asked_about(splits: Splits) -> NDArray[np.int64]:
    """The examples that are attacked: members, then held-out."""
    return np.concatenate([splits.members, splits.held_out])


def files_asked_about(splits: Splits) -> tuple[str, ...]:
    """Of those examples, in their order; none where the data are not files."""
    files = splits.images.files or ()
    return tuple(files[i] for i in asked_about(splits)) if files else ()


def answers(asked: Asked, splits: Splits, context: Context) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits (N, K) on the examples, and (P, K) on the test images."""
    parts = {"members": splits.members, "held_out": splits.held_out, "test": splits.test}
    found = _kept(asked, splits, context, {part: partial(_logits, asked, splits, i) for part, i in parts.items()})
    return np.concatenate([found["members"], found["held_out"]]), found["test"]


def _logits(asked: Asked, splits: Splits, indices: NDArray[np.int64]) -> NDArray[Any]:
    return asked.predict(pixels(splits, indices))


def ask(
    asked: Asked,
    splits: Splits,
    context: Context,
    effort: Effort = PLAIN,
    *,
    references: References | None = None,
    versions: NDArray[np.float64] | None = None,
) -> Subject:
    """Answers on members, held-out and test images, what ``effort`` adds to them, and every attack's scores."""
    chosen, (logits, test) = asked_about(splits), answers(asked, splits, context)
    evidence = Evidence(
        logits,
        splits.labels[chosen],
        references=references,
        population=Population(test, splits.labels[splits.test], splits.images.rows(splits.test)),
        images=splits.images.rows(chosen),
        versions=versions,
    )
    if effort.queries > 1:
        evidence = replace(evidence, variants=dict(_variants(asked, splits, context, effort.queries)))
    refused = ""
    if effort.access == "file" and asked.file:
        try:
            evidence = replace(evidence, gradients=_gradients(asked, asked.file, splits, context))
        except (ArtifactError, TargetUnavailableError) as error:  # of a target, or an operator, that cannot be read
            refused = str(error)
    outputs = Outputs(evidence, np.arange(len(chosen)) < len(splits.members), splits.canary[chosen])
    correct = test.argmax(1) == splits.labels[splits.test]
    scores = score(outputs, ATTACKS, "file" if effort.access == "file" else seen(effort.access, asked.shows))
    if refused:
        skipped = {name: refused if "gradients" in ATTACKS[name].needs else why for name, why in scores.skipped.items()}
        scores = replace(scores, skipped=skipped)
    return Subject(asked.name, outputs, scores, int(correct.sum()), len(correct))


def _kept(
    asked: Asked, splits: Splits, context: Context, parts: Mapping[str, Callable[[], NDArray[Any]]], **more: Any
) -> dict[str, NDArray[np.float64]]:
    """Each part's array, computed once for this model and split and ``more``."""

    def compute(folder: Path, partial: Path) -> None:
        arrays = {part: np.ascontiguousarray(answer(), np.float64) for part, answer in parts.items()}
        save({part: torch.from_numpy(values) for part, values in arrays.items()}, folder / ANSWERS)

    inputs = {**asked.identity, "split": splits.sha256(), "parts": [*parts], **more}
    of = ", ".join([asked.said, *(part for part in parts if part not in ONE_ANSWER)])
    step = context.store.step("query", inputs, compute, of=of)
    return {part: tensor.numpy() for part, tensor in load(step.path / ANSWERS)[0].items()}


def _variants(asked: Asked, splits: Splits, context: Context, count: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Answers (V, N, K) on at most ``count`` changed copies of every image, of every kind there is."""
    images = splits.images.rows(asked_about(splits))
    for name in VARIANTS:
        copies = min(count, len(MOVES)) if name == "augmented" else count
        compute = partial(queries.answers, asked.predict, name, images, copies)
        yield name, _kept(asked, splits, context, {name: compute}, copies=copies, changes=queries.code())[name]


def _gradients(asked: Asked, file: Artifact, splits: Splits, context: Context) -> NDArray[np.float64]:
    chosen = asked_about(splits)
    compute = partial(gradient_norms, file, pixels(splits, chosen), splits.labels[chosen])
    return _kept(asked, splits, context, {"gradients": compute})["gradients"]
