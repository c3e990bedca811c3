"""One reference model: made in steps of the run store, and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune import models
from mobileprune.attacks import queries
from mobileprune.config import Config, ExportConfig
from mobileprune.export.target import STOCK
from mobileprune.lazy import Sliced
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import as_baseline, export
from mobileprune.pipeline.inputs import lineage_of, pixels, splits_of
from mobileprune.pipeline.parity import source_logits
from mobileprune.pipeline.prune import prune, pruning_lineage
from mobileprune.pipeline.train import train
from mobileprune.runs import RunStore, StepResult
from mobileprune.runtimes import open_runtime
from mobileprune.runtimes.kernels import library_sha256
from mobileprune.shadows.answers import file_of
from mobileprune.shadows.remake import RETRAINING
from mobileprune.tensors import save
from mobileprune.training import Progress

STEP = "reference"
PARTS = ("examples", "test")


def draws(count: int, own: int | None) -> list[int]:
    """The first redraws but the target's ``own`` and its complement: a reference model is never the target itself."""
    return [draw for draw in range(count + 2) if own is None or draw // 2 != own // 2][:count]


@dataclass(frozen=True)
class Reference:
    """What a process needs to know to make one reference model and to ask it. ``copies``: number of changed copies of
    each kind; ``split_sha256``: of the target's split."""

    target: Config
    draw: int
    retraining: Config | None
    copies: tuple[tuple[str, int], ...]
    split_sha256: str
    root: Path
    num_threads: int

    def redraw(self, config: Config) -> Config:
        return replace(config, data=replace(config.data, redraw=self.draw))

    def inputs(self) -> dict[str, Any]:
        """Of the step; a number of the redraw and the target's split name the data of the reference."""
        config, again = self.redraw(self.target), self.retraining
        return {
            "config": lineage_of(config),
            "prune": again and pruning_lineage(again.prune) | {name: getattr(again.train, name) for name in RETRAINING},
            "export": asdict(config.export),
            "library": library_sha256() if config.export.kernels != STOCK else None,
            "code": models.code_digest(config.train.model),
            "split": self.split_sha256,
            "num_threads": self.num_threads,
            "copies": {**dict(self.copies), "changes": queries.code()} if self.copies else None,
        }


def make(reference: Reference, progress: Progress | None = None) -> StepResult:
    """The step of one reference: its parts are steps too, of which only this one's result is needed in the end."""
    context = Context(RunStore(reference.root), progress, reference.num_threads)

    def compute(folder: Path, partial: Path) -> None:
        own, splits = reference.redraw(reference.target), splits_of(reference.target)
        parts = dict(zip(PARTS, (np.concatenate([splits.members, splits.held_out]), splits.test), strict=True))

        def keep(name: str, part: str, logits: NDArray[Any]) -> None:
            values = np.ascontiguousarray(logits, np.float64)
            save({"logits": torch.from_numpy(values)}, folder / file_of(name, part))

        def answer(name: str, predict: Callable[[Sliced[np.float32]], NDArray[Any]]) -> None:
            for part, chosen in parts.items():
                keep(name, part, predict(pixels(splits, chosen)))
            for kind, count in reference.copies:
                images = splits.images.rows(parts["examples"])
                keep(name, kind, queries.answers(predict, kind, images, count))

        def answer_exported(name: str, model: ModelFolder, how: ExportConfig) -> None:
            artifact = export(model, replace(own, export=how), context)
            answer(name, open_runtime(artifact, reference.num_threads).predict)

        model = train(own, context)
        if reference.retraining:
            answer_exported("dense", model, as_baseline(own.export))
            model = prune(model, reference.redraw(reference.retraining), context)
        answer("source", lambda x: source_logits(model, x))
        answer_exported("artifact", model, own.export)

    return context.store.step(STEP, reference.inputs(), compute, of=f"number {reference.draw}")
