"""What is known of one exported file: its size, its accuracy, and how much it leaks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobileprune import evaluate
from mobileprune.artifact import Artifact
from mobileprune.attacks import Group, Scores
from mobileprune.audit.compare import against_ceiling
from mobileprune.audit.selection import strongest
from mobileprune.audit.verdict import Policy
from mobileprune.bench import file_size
from mobileprune.config import Config, Effort
from mobileprune.evaluate import Relatives, Subject
from mobileprune.files import write_json
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import splits_of
from mobileprune.runs import judging_digest
from mobileprune.schemas import parse

MEASURED = "measured.json"


def measured(
    artifact: Artifact, source: ModelFolder | None, config: Config, effort: Effort, context: Context
) -> dict[str, Any]:
    """Size, accuracy, leakage and, where there is a ``source``, the verdict; as JSON. A step of the run store.

    The verdict is that of an audit without options, so that other limits need no new attack.
    """
    splits, policy = splits_of(config), Policy()

    def compute(folder: Path, partial: Path) -> None:
        known = evaluate.overrides_of(config)
        asked = evaluate.subjects(artifact, Relatives(source, None), splits, context, effort, known)
        file = asked["artifact"]
        value = {**_size(artifact), **_accuracy(file), **leakage(file.scores, policy.alpha)}
        if source:
            verdict = evaluate.verdict(artifact, asked, policy, effort)
            value |= {"verdict": verdict.overall, "sentence": verdict.sentence}
        write_json(folder / MEASURED, value)

    inputs = {
        "artifact": artifact.manifest.sha256,
        "target": artifact.manifest.target,
        "normalisation": [artifact.manifest.mean, artifact.manifest.std],
        "source": source and source.weights_sha256,
        "split": splits.sha256(),
        "effort": effort.to_dict(),
        "versions": [Artifact.load(path).manifest.sha256 for path in map(Path, effort.versions)],
        "policy": asdict(policy),
        "judging": judging_digest(),
        "num_threads": context.num_threads,
    }
    step = context.store.step(
        "measure", inputs, compute, of=f"{artifact.manifest.file} {artifact.manifest.sha256[:12]}"
    )
    value: dict[str, Any] = parse((step.path / MEASURED).read_bytes())
    return value


def _size(artifact: Artifact) -> dict[str, Any]:
    manifest, size = artifact.manifest, file_size(artifact.model_path)
    return {
        "artifact_sha256": manifest.sha256,
        "target": manifest.target,
        "precision": manifest.precision,
        "sparsity": manifest.sparsity["prunable_zeros"] / manifest.sparsity["prunable_total"],
        "size_bytes": size.size_bytes,
        "deflated_bytes": size.deflated_bytes,
    }


def _accuracy(file: Subject) -> dict[str, Any]:
    test = file.test_accuracy
    return {
        "test_accuracy": test if test == test else None,  # NaN: there are no test images
        "member_accuracy": file.outputs.accuracy(member=True),
    }


def leakage(scores: Scores, alpha: float) -> dict[str, Any]:
    """``auc`` over all members and ``canary_auc`` (None without canaries), each with the bound that limits look at."""
    groups = scores.groups()
    found = {group: _leakage(part, group, alpha) for group, part in groups.items()}
    return {"auc": found["all"], "canary_auc": found.get("canaries")}


def _leakage(scores: Scores, group: Group, alpha: float) -> dict[str, Any]:
    best = strongest(scores)
    bounds = [c.estimate.high for c in against_ceiling(scores, group, limit=1.0, alpha=alpha)]
    known = [bound for bound in bounds if bound is not None]
    return {
        "auc": best.auc.to_dict(),
        "attacks": list(dict.fromkeys(best.chosen)),
        "upper": max(known) if known and len(known) == len(bounds) else None,
    }
