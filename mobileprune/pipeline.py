"""The arrows from data to artifact, each a step of the run store that is computed once.

    data -> train -> prune -> convert -> export -> Artifact

This is the training side. What judges the result (bench, attacks, audit) starts from the Artifact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune import data, models
from mobileprune.artifact import Artifact, Manifest, write_artifact
from mobileprune.config import Config
from mobileprune.convert.fold_bn import fold_bn, reestimate
from mobileprune.convert.preprocessing import Baked
from mobileprune.data.splits import Splits, split
from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.export import ExportOptions, target
from mobileprune.export.parity import parity
from mobileprune.files import sha256
from mobileprune.models.checkpoint import load_into, read_weights
from mobileprune.models.folder import WEIGHTS, ModelFolder, ModelInfo
from mobileprune.pruning import PruneRecipe, PruneTask, method, prune
from mobileprune.pruning.masks import Scope, prunable
from mobileprune.runs import RunStore, tool_versions
from mobileprune.runtimes import open_runtime
from mobileprune.training import Checkpoint, Examples, Progress, Recipe, fit, predict

PARITY_BATCHES = (1, 2, 17)  # beside the full batches: shapes at which dynamic batch sizes go wrong


@dataclass
class Context:
    """Where results are kept and who hears of progress."""

    store: RunStore
    progress: Progress | None = None
    num_threads: int = 1

    def checkpoint(self, partial: Path) -> Callable[[str], Checkpoint]:
        secs = float(environ.get("MOBILEPRUNE_CHECKPOINT_SECS", "5"))
        return lambda stage: Checkpoint(partial / f"{stage}.safetensors", secs)


@lru_cache(maxsize=4)
def load_splits(dataset: str, data_dir: str | None, seed: int, members: int | None, canaries: float) -> Splits:
    return split(
        data.load(dataset, Path(data_dir) if data_dir else None), seed=seed, members=members, canaries=canaries
    )


def splits_of(config: Config) -> Splits:
    d = config.data
    return load_splits(d.dataset, d.data_dir, config.seed, d.members, d.canaries)


def normalised(splits: Splits, indices: NDArray[np.int64], mean: list[float], std: list[float]) -> Examples:
    x = pixels(splits, indices)
    centre, scale = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std))
    return Examples(torch.from_numpy((x - centre) / scale), torch.from_numpy(splits.labels[indices]))


def pixels(splits: Splits, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """(N, C, H, W) float32 in [0, 1]"""
    return splits.images.pixels[indices].astype(np.float32) / np.float32(255)


def statistics(splits: Splits) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the members' pixels, to 4 digits."""
    x = splits.images.pixels[splits.members].astype(np.float64) / 255
    mean, std = x.mean((0, 2, 3)), np.maximum(x.std((0, 2, 3)), 1e-3)
    return [round(float(m), 4) for m in mean], [round(float(s), 4) for s in std]


def without_paths(config: Config) -> dict[str, Any]:
    """What a result depends on, without paths of this machine: the data are named by their hash instead."""
    values = config.to_dict()
    prefix, colon, path = config.data.dataset.partition(":")
    values["data"]["dataset"] = prefix + colon + Path(path).name
    del values["data"]["data_dir"]
    if config.train.checkpoint:
        values["train"]["checkpoint"] = sha256(Path(config.train.checkpoint))
    return values


def train(config: Config, context: Context) -> ModelFolder:
    """The dense model: trained, or the user's checkpoint taken over."""
    torch.set_num_threads(context.num_threads)
    if config.train.checkpoint:
        read_weights(Path(config.train.checkpoint))  # say what is wrong before any work is done
    splits = splits_of(config)
    made_from = {k: v for k, v in without_paths(config).items() if k not in ("prune", "export")}
    mean, std = statistics(splits)

    def compute(folder: Path, partial: Path) -> None:
        model = models.build(
            config.train.model,
            num_classes=len(splits.images.classes),
            input_shape=splits.images.shape,
            seed=config.seed,
        )
        if config.train.checkpoint:
            load_into(model, Path(config.train.checkpoint))
        else:
            fit(
                model,
                normalised(splits, splits.members, mean, std),
                Recipe(config.train.epochs, config.train.lr, config.train.batch_size),
                seed=config.seed,
                checkpoint=context.checkpoint(partial)("training"),
                progress=context.progress,
            )
        info = ModelInfo(
            model=config.train.model,
            num_classes=len(splits.images.classes),
            input_shape=splits.images.shape,
            mean=mean,
            std=std,
            labels=list(splits.images.classes),
            split_sha256=splits.sha256(),
            config=made_from,
            sparsity=sparsity(model, list(prunable(model))),
            prunable=list(prunable(model)),
        )
        ModelFolder.write(folder, info, model.state_dict())

    inputs = {"config": made_from, "split": splits.sha256(), "num_threads": context.num_threads}
    return ModelFolder.load(context.store.step("train", inputs, compute).path)


def prune_model(dense: ModelFolder, config: Config, context: Context) -> ModelFolder:
    """Prune ``dense`` with the configured method; ADMM and retraining resume where they were killed."""
    torch.set_num_threads(context.num_threads)
    find_masks = method(config.prune.method)
    splits = splits_of(config)
    info = dense.info
    if info.split_sha256 != splits.sha256():
        raise MobilepruneError(
            f"{dense.path} was trained on another split; give the same --dataset, --members, --canaries and --seed"
        )

    def compute(folder: Path, partial: Path) -> None:
        model = dense.restore()
        p, t = config.prune, config.train
        members = normalised(splits, splits.members, info.mean, info.std)
        scope: Scope = "global" if p.scope == "global" else "layer"
        recipe = PruneRecipe(
            sparsity=p.sparsity,
            scope=scope,
            keep_dense=p.keep_dense,  # type: ignore[arg-type]  # the configuration has checked its choices
            lam=p.lam,
            admm=Recipe(p.admm_epochs, t.lr, t.batch_size),
            retrain=Recipe(p.retrain_epochs, t.lr, t.batch_size),
        )
        task = PruneTask(
            model=model,
            members=members,
            reference=normalised(splits, splits.reference, info.mean, info.std),
            num_classes=info.num_classes,
            recipe=recipe,
            seed=config.seed,
            progress=context.progress,
            checkpoint=context.checkpoint(partial),
        )
        masks = prune(task, find_masks)
        reestimate(model, members.x)
        made_from = {**info.config, "prune": asdict(p)}
        pruned = replace(
            info,
            config=made_from,
            sparsity=sparsity(model, list(masks)),
            prunable=list(masks),
            dense_weights_sha256=dense.weights_sha256,
        )
        ModelFolder.write(folder, pruned, model.state_dict())

    inputs = {
        "dense": dense.weights_sha256,
        "prune": asdict(config.prune),
        "lr": config.train.lr,
        "batch_size": config.train.batch_size,
        "split": splits.sha256(),
        "seed": config.seed,
        "num_threads": context.num_threads,
    }
    return ModelFolder.load(context.store.step("prune", inputs, compute).path)


def adopt(folder: ModelFolder, context: Context) -> ModelFolder:
    """Copy a model folder of the user's into the run store, so that a later audit finds it by its hash."""

    def compute(copy: Path, partial: Path) -> None:
        ModelFolder.write(copy, folder.info, read_weights(folder.path / WEIGHTS))

    inputs = {"weights": folder.weights_sha256, "info": asdict(folder.info)}
    return ModelFolder.load(context.store.step("adopt", inputs, compute).path)


def find_model(store: RunStore, weights_sha256: str | None) -> ModelFolder | None:
    """The model folder in the store that holds these weights."""
    for record in sorted(store.root.glob("*/*/model.json")):
        if record.parent.parent.name in ("train", "prune", "adopt"):
            folder = ModelFolder.load(record.parent)
            if folder.weights_sha256 == weights_sha256:
                return folder
    return None


def sparsity(model: torch.nn.Module, names: list[str]) -> dict[str, Any]:
    """Zeros counted in the weights themselves, over prunable and over all parameters."""
    parameters = dict(model.named_parameters())
    layers = {
        name: {
            "shape": list(parameters[name].shape),
            "total": parameters[name].numel(),
            "zeros": int((parameters[name] == 0).sum()),
        }
        for name in names
    }
    return {
        "prunable_zeros": sum(layer["zeros"] for layer in layers.values()),
        "prunable_total": sum(layer["total"] for layer in layers.values()),
        "all_zeros": sum(int((p == 0).sum()) for p in parameters.values()),
        "all_total": sum(p.numel() for p in parameters.values()),
        "layers": layers,
    }


def export_model(folder: ModelFolder, config: Config, context: Context) -> Artifact:
    """Convert and export into the run store; parity on the held-out and member images is checked before."""
    torch.set_num_threads(context.num_threads)
    chosen, splits, info = target(config.export.target), splits_of(config), folder.info

    def compute(path: Path, partial: Path) -> None:
        model: torch.nn.Module = fold_bn(folder.restore())
        if config.export.bake_preprocessing:
            model = Baked(model, info.mean, info.std).eval()
        with tempfile.TemporaryDirectory(dir=partial) as work:
            file = Path(work) / chosen.file
            options = ExportOptions(config.export.opset, config.export.bytecode_version)
            chosen.write(model, info.input_shape, file, options)
            manifest = Manifest(
                target=chosen.name,
                file=chosen.file,
                sha256=sha256(file),
                size_bytes=file.stat().st_size,
                input_shape=info.input_shape,
                num_classes=info.num_classes,
                mean=tuple(info.mean),
                std=tuple(info.std),
                preprocessing_baked=config.export.bake_preprocessing,
                labels=tuple(info.labels),
                sparsity=info.sparsity,
                forms=("dense",),
                parity={},
                lineage={
                    "data": {**info.config["data"], "seed": info.config["seed"], "split_sha256": info.split_sha256},
                    "train": info.config["train"],
                    "prune": info.config.get("prune"),
                    "seed": info.config["seed"],
                    "export": asdict(config.export),
                    "weights_sha256": folder.weights_sha256,
                    "dense_weights_sha256": info.dense_weights_sha256,
                    "versions": tool_versions(),
                },
                created=_now(),
            )
            draft = write_artifact(Path(work) / "draft", file, manifest)
            checked = replace(manifest, parity=check_parity(draft, folder, splits, config.export.atol))
            made = write_artifact(path / "artifact", file, checked)
            assert made.manifest.sha256 == manifest.sha256

    inputs = {
        "weights": folder.weights_sha256,
        "info": asdict(info),
        "export": asdict(config.export),
        "split": splits.sha256(),
    }
    step = context.store.step("export", inputs, compute)
    return Artifact.load(step.path / "artifact")


def check_parity(artifact: Artifact, folder: ModelFolder, splits: Splits, atol: float) -> dict[str, Any]:
    """All members and held-out images, black, white and noise, and odd batch sizes, through the runtime."""
    real = pixels(splits, np.concatenate([splits.members, splits.held_out])[:2000])
    noise = np.random.default_rng(0).uniform(size=(1, *folder.info.input_shape))
    extremes = np.concatenate([np.zeros_like(noise), np.ones_like(noise), noise]).astype(np.float32)
    inputs = np.concatenate([real, extremes])
    runtime = open_runtime(artifact)
    parts = [inputs, *(inputs[: 2 * size] for size in PARITY_BATCHES)]
    exported = [runtime.predict(x, size) for x, size in zip(parts, (256, *PARITY_BATCHES), strict=True)]
    source = source_logits(folder, inputs)
    expected = np.concatenate([source[: len(x)] for x in parts])
    return parity(np.concatenate(exported).astype(np.float64), expected, atol=atol)


def source_logits(folder: ModelFolder, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The PyTorch model's logits (N, K) for pixels in [0, 1]."""
    centre, scale = (np.asarray(v, np.float32)[:, None, None] for v in (folder.info.mean, folder.info.std))
    logits = predict(folder.restore(), torch.from_numpy((x - centre) / scale)).numpy()
    if not np.isfinite(logits).all():
        raise ArtifactError(f"{folder.path}: the model's outputs hold NaN or infinity")
    return logits.astype(np.float64)


def _now() -> str:
    """ISO-8601 UTC; ``SOURCE_DATE_EPOCH`` fixes it for reproducible builds."""
    epoch = environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
