"""Reference ("shadow") models: the target's whole pipeline again on other members, asked through the same runtime.

    redraw -> train -> prune -> export -> query        each a step of the run store, so a killed run continues

An attacker who knows how the target was made does the same (LiRA, arXiv 2112.03570, section IV; of pruned models,
arXiv 2202.03335): what counts is how the target's answers differ from those of models that did, or did not, learn an
example. The examples, their pairs and canaries are the target's; coins, initialisation and batches are others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune import models
from mobileprune.artifact import Artifact
from mobileprune.attacks import queries
from mobileprune.config import Config, ExportConfig, PruneConfig, TrainConfig
from mobileprune.data.splits import redrawn
from mobileprune.engines import HERE, Engine, Task, pool, run
from mobileprune.errors import DataError, UsageError
from mobileprune.export import target
from mobileprune.export.target import STOCK
from mobileprune.files import sha256
from mobileprune.lazy import Sliced
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import as_baseline, export, source_logits
from mobileprune.pipeline.inputs import data_from_lineage, lineage_of, pixels, splits_of, with_whole_paths
from mobileprune.pipeline.prune import prune, pruning_lineage
from mobileprune.pipeline.train import find_model, train
from mobileprune.pruning.budgets import SHARED
from mobileprune.runs import RunStore, StepResult, read_record
from mobileprune.runtimes import open_runtime
from mobileprune.runtimes.kernels import library_sha256
from mobileprune.tensors import load, save
from mobileprune.training import Progress

Floats = NDArray[np.float64]
STEP = "reference"
PARTS = ("examples", "test")
RETRAINING = ("lr", "batch_size", "augment")
"""What of TrainConfig retraining takes too."""


@dataclass(frozen=True)
class Stored(Sequence[Floats]):
    """Arrays that are read from disk one at a time."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Floats: ...
    @overload
    def __getitem__(self, index: slice) -> Stored: ...
    def __getitem__(self, index: int | slice) -> Floats | Stored:
        if isinstance(index, slice):
            return Stored(self.files[index])
        logits: Floats = load(self.files[index])[0]["logits"].numpy()
        return logits


@dataclass(frozen=True)
class Answers:
    """Logits of R models, float64: R arrays (N, K) on the examples, (P, K) on the test images and, for each kind of
    changed copies that was asked about, (V, N, K) on V copies of the examples."""

    examples: Stored
    test: Stored
    variants: Mapping[str, Stored]


@dataclass(frozen=True, eq=False)
class Shadows:
    """R reference models, asked about the target's N examples (members, then held-out) and P test images, in its order.

    ``inside`` (R, N): which model was trained on which example. ``answers``: of each model's exported file
    ("artifact"), of its PyTorch source ("source") and, where the target was pruned, of the model before pruning,
    exported as the dense baseline is ("dense").
    """

    inside: NDArray[np.bool_]
    answers: Mapping[str, Answers]


def pipeline_of(artifact: Artifact, overrides: Mapping[str, Any]) -> Config:
    """The configuration that makes ``artifact``, from its lineage (``prune`` counts only where that tells of pruning).

    ``overrides`` gives what a file must not decide: dataset and data_dir, the ``model`` where it is a function of the
    user's, the ``budget`` where it is a file. DataError for a model that did not begin with training; UsageError for an
    override that is missing or another than the artifact's.
    """
    lineage = artifact.manifest.lineage
    made, pruning = TrainConfig(**lineage["train"]), PruneConfig(**lineage["prune"] or {})
    if made.checkpoint:
        raise DataError(
            f"{artifact.path} was made from a checkpoint (sha256 {made.checkpoint[:12]}…), whose training cannot be "
            "repeated for reference models; attack it without (--references 0), or train it with `mobileprune train`"
        )
    if models.is_users(made.model) and overrides.get("model") != made.model:
        raise UsageError(
            f"{artifact.path} was built by {made.model}; reference models run that code: "
            f"allow it with --model {made.model}"
        )
    if pruning.budget not in SHARED:
        file = Path(overrides.get("budget") or "")
        if not file.is_file() or sha256(file) != pruning.budget:
            raise UsageError(
                f"{artifact.path} was pruned with a budget file of sha256 {pruning.budget[:12]}…, which reference "
                "models need too: give it with --budget FILE"
            )
        pruning = replace(pruning, budget=str(file))
    data = data_from_lineage(lineage["data"], overrides)
    return Config(data, made, pruning, ExportConfig(**lineage["export"]), lineage["data"]["seed"])


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
    retraining = _retraining(artifact, config, context) if artifact.manifest.lineage["prune"] else None
    chosen = draws(count, config.data.redraw)
    wanted = [
        _Reference(config, draw, retraining, more, splits.sha256(), context.store.root.resolve(), context.num_threads)
        for draw in chosen
    ]
    folders = _made(wanted, engine, context)
    asked = np.concatenate([splits.members, splits.held_out])
    inside = np.stack([np.isin(asked, redrawn(splits, config.seed, draw).members) for draw in chosen])
    names = ("artifact", "source", *(["dense"] if retraining else []))

    def stored(name: str, part: str) -> Stored:
        return Stored(tuple(folder / _file(name, part) for folder in folders))

    answers = {
        name: Answers(stored(name, "examples"), stored(name, "test"), {kind: stored(name, kind) for kind, _ in more})
        for name in names
    }
    return Shadows(inside, answers)


def make_one(config: Config, draw: int, copies: Mapping[str, int], context: Context) -> StepResult:
    """One of the models that :func:`references` finds for the artifact that ``config`` trains and prunes."""
    split = splits_of(config).sha256()
    more, root = tuple(copies.items()), context.store.root
    return _make(_Reference(config, draw, config, more, split, root, context.num_threads), context.progress)


def _file(name: str, part: str) -> str:
    return f"{name}-{part}.safetensors"


def draws(count: int, own: int | None) -> list[int]:
    """The first redraws but the target's ``own`` and its complement: a reference model is never the target itself."""
    return [draw for draw in range(count + 2) if own is None or draw // 2 != own // 2][:count]


def _retraining(artifact: Artifact, config: Config, context: Context) -> Config:
    """``config`` with the learning rate, batch size and augmentation of retraining.

    A pruning of its own may have had others than the dense training; then the run store that it was done in tells.
    Elsewhere they are taken to be the same, as `mobileprune export` without a model has them.
    """
    lineage = artifact.manifest.lineage
    source = find_model(context.store, lineage["weights_sha256"], lineage["data"]["split_sha256"])
    record = read_record(source.path) if source else None
    if record is None or record.get("step") != "prune":
        return config
    known = record["inputs"]
    if known["dense"] != lineage["dense_weights_sha256"]:
        raise DataError(
            f"{artifact.path} was pruned more than once, and its lineage tells only of the last time, so reference "
            "models cannot be made the same way; attack it without (--references 0)"
        )
    return replace(config, train=replace(config.train, **{name: known[name] for name in RETRAINING}))


@dataclass(frozen=True)
class _Reference:
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


def _made(wanted: list[_Reference], engine: Engine, context: Context) -> list[Path]:
    """The folders of all references in order; those that are there need no process."""
    found: dict[_Reference, Path] = {}

    def heard(reference: _Reference, step: StepResult) -> None:
        found[reference] = context.store.note(step).path
        if context.progress:
            context.progress("references", len(found), len(wanted))

    missing = [reference for reference in wanted if not context.store.place(STEP, reference.inputs()).is_dir()]
    for reference in wanted:
        if engine.here or reference not in missing:
            heard(reference, _make(reference, context.progress))
    if not engine.here and missing:
        tasks = [Task(f"reference model {reference.draw}", _make, reference) for reference in missing]
        with pool(engine, context.num_threads) as workers:
            run(tasks, workers, lambda task, step: heard(task.argument, step))
    return [found[reference] for reference in wanted]


def _make(reference: _Reference, progress: Progress | None = None) -> StepResult:
    """The step of one reference: its parts are steps too, of which only this one's result is needed in the end."""
    context = Context(RunStore(reference.root), progress, reference.num_threads)

    def compute(folder: Path, partial: Path) -> None:
        own, splits = reference.redraw(reference.target), splits_of(reference.target)
        parts = dict(zip(PARTS, (np.concatenate([splits.members, splits.held_out]), splits.test), strict=True))

        def keep(name: str, part: str, logits: NDArray[Any]) -> None:
            values = np.ascontiguousarray(logits, np.float64)
            save({"logits": torch.from_numpy(values)}, folder / _file(name, part))

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

    return context.store.step(STEP, reference.inputs(), compute)
