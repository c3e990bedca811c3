"""Asks a foreign model about members and non-members of the data, as an artifact is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.bench import file_size
from mobileprune.config import Config, DataConfig, Effort, TrainConfig
from mobileprune.data import PREFIXES
from mobileprune.data.splits import Splits
from mobileprune.errors import DataError, UsageError
from mobileprune.evaluate import ask
from mobileprune.evaluate.asking import Asked, files_asked_about
from mobileprune.evaluate.results import stated
from mobileprune.foreign import models
from mobileprune.foreign.answers import SHOWS, Kind, Where, as_logits, checked, detected
from mobileprune.foreign.models import BATCH, Model, Predict
from mobileprune.foreign.subject import Examined, described, said_of
from mobileprune.lazy import Sliced
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import pixels, splits_of, statistics_of
from mobileprune.runs import RunStore

STATE = (
    "an audit must know who was trained on: give --dataset folder:PATH with PATH/members/<class>/... and "
    "PATH/nonmembers/<class>/..., or npz:PATH with a boolean array 'member'"
)
FEW = 8
"""Images that are asked alone too, to see whether an answer depends on its batch, or on chance."""


def of_asked(
    given: Path | str | Predict,
    data: Mapping[str, Any],
    context: Context,
    effort: Effort,
    kind: Kind | None = None,
    *,
    mean: str | None = None,
    std: str | None = None,
) -> Examined:
    """The attacks on a model file (a ``Path``) or a function (``package.module:function``, or the function itself).

    ``data``: dataset, data_dir and image_size, which state membership. ``mean`` and ``std``: what pixels are normalised
    with before a file gets them, 0 and 1 without. A function's answers are not kept: what they depend on is not known.
    """
    splits = _splits(data)
    model = _model(given, splits, context, mean, std)
    asked = np.concatenate([splits.members, splits.held_out])
    probe = pixels(splits, asked)[np.linspace(0, len(asked) - 1, min(BATCH, len(asked))).astype(int)]
    where = _place(model.name, len(probe))
    values = checked(model.predict(probe), where)
    found, classes = kind or detected(values, where), len(splits.images.classes)
    if values.shape[1] < classes:
        raise DataError(f"{model.name} has {values.shape[1]} outputs, but the data have {classes} classes")

    def predict(x: Sliced[np.float32]) -> NDArray[np.float64]:
        return as_logits(model.predict(x), found, _place(model.name, len(x)))

    notes = [*said_of(model.kind, found, told=kind is not None), *stated(splits), *_batch_notes(model, probe, values)]
    if model.kind == "file" and mean is None and std is None:
        notes.append("the file gets pixels in [0, 1] as they are: neither --mean nor --std was given")
    if values.shape[1] > classes:
        notes.append(f"it has {values.shape[1]} outputs for {classes} classes: labels are taken as the first of them")
    question = Asked("artifact", {**(model.identity or {}), "outputs": found}, predict, None, SHOWS[found], model.name)
    with nullcontext(context) if model.identity else _forgotten(context) as place:
        subject = ask(question, splits, place, effort)
    size = file_size(given) if isinstance(given, Path) else None
    what = described(model.kind, model.name, model.sha256, found)
    return Examined(subject, what, splits.described(), effort, tuple(notes), size, files_asked_about(splits))


def _place(name: str, count: int) -> Where:
    return lambda i: f"{name}, image {i} of {count}"


def _splits(data: Mapping[str, Any]) -> Splits:
    dataset = str(data.get("dataset", ""))
    if dataset.partition(":")[0] not in PREFIXES:
        raise DataError(f"{dataset or 'the data'} cannot say whom a model of yours was trained on; {STATE}")
    where = DataConfig(dataset, data.get("data_dir"), canaries=0.0, image_size=data.get("image_size"))
    splits = splits_of(Config(where))
    if splits.membership != "stated":
        raise DataError(f"{dataset} does not say whom the model was trained on; {STATE}")
    return splits


def _model(given: Path | str | Predict, splits: Splits, context: Context, mean: str | None, std: str | None) -> Model:
    stated = mean is not None or std is not None
    if not isinstance(given, Path):
        if stated:
            raise UsageError("--mean and --std are for model files; a function gets pixels in [0, 1] and does the rest")
        return models.of_function(given)
    centre, scale = statistics_of(TrainConfig(mean=mean, std=std), splits) if stated else (None, None)
    return models.of_file(given, splits.images.shape, centre, scale, context.num_threads)


def _batch_notes(model: Model, probe: NDArray[np.float32], values: NDArray[Any]) -> Iterator[str]:
    """``values``: the answers to ``probe`` as one batch."""
    alone = np.concatenate([model.predict(probe[i : i + 1]) for i in range(min(FEW, len(probe)))])
    if not np.allclose(alone, values[:FEW], rtol=1e-3, atol=1e-3 * float(np.abs(values[:FEW]).max())):
        yield (
            "an image's answer changes with its batch, or from call to call: dropout or batch statistics are at work, "
            "as in a model that is not in evaluation mode"
        )


@contextmanager
def _forgotten(context: Context) -> Iterator[Context]:
    """``context`` with a run store that goes with the block."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        store.on_step = context.store.on_step
        yield replace(context, store=store)
