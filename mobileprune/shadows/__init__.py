"""Reference ("shadow") models: the target's whole pipeline again on other members, asked through the same runtime.

    redraw -> train -> prune -> export -> query        each a step of the run store, so a killed run continues

An attacker who knows how the target was made does the same (LiRA, arXiv 2112.03570, section IV; of pruned models,
arXiv 2202.03335): what counts is how the target's answers differ from those of models that did, or did not, learn an
example. The examples, their pairs and canaries are the target's; coins, initialisation and batches are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobileprune.artifact import Artifact
from mobileprune.attacks import queries
from mobileprune.config import Config
from mobileprune.data.splits import redrawn
from mobileprune.engines import HERE, Engine, Task, pool, run
from mobileprune.errors import DataError, UsageError
from mobileprune.export import target
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import splits_of, with_whole_paths
from mobileprune.runs import StepResult
from mobileprune.shadows.answers import Answers, Shadows, Stored, file_of
from mobileprune.shadows.reference import STEP, Reference, draws, make
from mobileprune.shadows.remake import pipeline_of, retraining_of

__all__ = ["Answers", "Shadows", "draws", "make_one", "pipeline_of", "references"]


def references(
    artifact: Artifact,
    count: int,
    overrides: Mapping[str, Any],
    context: Context,
    engine: Engine = HERE,
    copies: Mapping[str, int] | None = None,
) -> Shadows:
    """``count`` models made as ``artifact`` was, by the workers of ``engine``, each with ``context.num_threads``.

    With an even ``count`` every example is inside exactly half of them. ``copies``: how many changed copies of the
    examples they are asked about too, by kind (of ``attacks.queries.VARIANTS``). Raises as :func:`pipeline_of` does,
    DataError where the data are not the target's or it was pruned more than once, and whatever a pipeline raises.
    """
    if count < 1:
        raise UsageError(f"--references {count}: must be at least 1")
    more = tuple((copies or {}).items())
    if wrong := [f"{number} {kind}" for kind, number in more if number < 1 or kind not in queries.VARIANTS]:
        kinds = ", ".join(queries.VARIANTS)
        raise UsageError(f"copies: {', '.join(wrong)}; there must be at least 1 of each kind, kinds are {kinds}")
    config, recorded = pipeline_of(artifact, overrides), artifact.manifest.lineage["data"]
    target(config.export.target).check(config.export.precision, config.export.sparse_format, config.export.kernels)
    splits = splits_of(config)
    if splits.sha256() != recorded["split_sha256"]:
        raise DataError(
            f"{splits.images.name} is not what {artifact.path} was trained on ({recorded['dataset']}); "
            "say where it is with --dataset and --data-dir"
        )
    config = with_whole_paths(config)  # for workers elsewhere
    retraining = retraining_of(artifact, config, context) if artifact.manifest.lineage["prune"] else None
    chosen = draws(count, config.data.redraw)
    wanted = [
        Reference(config, draw, retraining, more, splits.sha256(), context.store.root.resolve(), context.num_threads)
        for draw in chosen
    ]
    folders = _made(wanted, engine, context)
    asked = np.concatenate([splits.members, splits.held_out])
    inside = np.stack([np.isin(asked, redrawn(splits, config.seed, draw).members) for draw in chosen])
    names = ("artifact", "source", *(["dense"] if retraining else []))

    def stored(name: str, part: str) -> Stored:
        return Stored(tuple(folder / file_of(name, part) for folder in folders))

    answers = {
        name: Answers(stored(name, "examples"), stored(name, "test"), {kind: stored(name, kind) for kind, _ in more})
        for name in names
    }
    return Shadows(inside, answers)


def make_one(config: Config, draw: int, copies: Mapping[str, int], context: Context) -> StepResult:
    """One of the models that :func:`references` finds for the artifact that ``config`` trains and prunes."""
    split = splits_of(config).sha256()
    more, root = tuple(copies.items()), context.store.root
    return make(Reference(config, draw, config, more, split, root, context.num_threads), context.progress)


def _made(wanted: list[Reference], engine: Engine, context: Context) -> list[Path]:
    """The folders of all references in order; those that are there need no process."""
    found: dict[Reference, Path] = {}

    def heard(reference: Reference, step: StepResult) -> None:
        found[reference] = context.store.note(step).path
        if context.progress:
            context.progress("references", len(found), len(wanted))

    missing = [reference for reference in wanted if not context.store.place(STEP, reference.inputs()).is_dir()]
    for reference in wanted:
        if engine.here or reference not in missing:
            heard(reference, make(reference, context.progress))
    if not engine.here and missing:
        tasks = [Task(f"reference model {reference.draw}", make, reference) for reference in missing]
        with pool(engine, context.num_threads) as workers:
            run(tasks, workers, lambda task, step: heard(task.argument, step))
    return [found[reference] for reference in wanted]
