"""The tasks of a sweep, as a worker does them. Each is a step of the run store, or several: done once, whoever asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileprune import evaluate, shadows
from mobileprune.artifact import Artifact
from mobileprune.config import Config, Effort
from mobileprune.errors import MobilepruneError
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.crossfit import crossfitted
from mobileprune.pipeline.export import as_baseline, export
from mobileprune.pipeline.inputs import splits_of, statistics_of
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train
from mobileprune.runs import RunStore, source_digest
from mobileprune.sweep.measure import measured
from mobileprune.training import Progress


@dataclass(frozen=True)
class Job:
    """``source``: of the mobileprune that asks; another one would put its results under other keys."""

    kind: str
    config: Config
    root: Path
    num_threads: int
    effort: Effort
    source: str
    number: int = 0
    """Folds of cross-fitting, or which reference model."""

    @property
    def said(self) -> str:
        """What it is about, for a line of progress; points are told by the options that they are made of."""
        prune = self.config.prune
        how = f", {prune.method} {prune.sparsity:g}" if self.kind == "prune" else ""
        return f"{self.config.train.model}{how}, seed {self.config.seed}"


@dataclass(frozen=True)
class Finished:
    """``artifact``: its folder, inside the run store's. ``reused``: nothing had to be computed."""

    value: dict[str, Any]
    artifact: str | None
    reused: bool
    seconds: float


def do(job: Job, progress: Progress | None = None, on_wait: Callable[[str, str], None] | None = None) -> Finished:
    """Whatever the job's kind is; MobilepruneError where the worker has another mobileprune than who asks."""
    if job.source != source_digest():
        raise MobilepruneError("this worker has another version of mobileprune than the sweep: install the same one")
    context = Context(RunStore(job.root, on_wait=on_wait), progress, job.num_threads)
    started = time.monotonic()
    value, artifact = KINDS[job.kind](job, context)
    where = artifact.path.relative_to(job.root).as_posix() if artifact else None
    return Finished(value, where, all(step.reused for step in context.store.done), time.monotonic() - started)


Found = tuple[dict[str, Any], Artifact | None]


def _train(job: Job, context: Context) -> Found:
    return {"weights_sha256": train(job.config, context).weights_sha256}, None


def _crossfit(job: Job, context: Context) -> Found:
    config = replace(job.config, train=replace(job.config.train, checkpoint=None))
    splits = splits_of(config)
    mean, std = statistics_of(config.train, splits)
    crossfitted(config, splits, mean, std, job.number, context)
    return {}, None


def _prune(job: Job, context: Context) -> Found:
    return {"weights_sha256": prune(train(job.config, context), job.config, context).weights_sha256}, None


def _baseline(job: Job, context: Context) -> Found:
    config = replace(job.config, export=as_baseline(job.config.export))
    artifact = export(train(config, context), config, context)
    effort = Effort(job.effort.access, queries=job.effort.queries)
    return measured(artifact, None, config, effort, context), artifact


def _reference(job: Job, context: Context) -> Found:
    shadows.make_one(job.config, job.number, evaluate.copies(job.effort), context)
    return {}, None


def _point(job: Job, context: Context) -> Found:
    source = prune(train(job.config, context), job.config, context)
    artifact = export(source, job.config, context)
    return measured(artifact, source, job.config, job.effort, context), artifact


KINDS: dict[str, Callable[[Job, Context], Found]] = {
    "crossfit": _crossfit,
    "train": _train,
    "prune": _prune,
    "baseline": _baseline,
    "reference": _reference,
    "point": _point,
}
"""In the order in which they are begun."""
