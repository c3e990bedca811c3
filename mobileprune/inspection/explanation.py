"""Why an export will, or will not, be faster or smaller, said before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mobileprune import data, models
from mobileprune.config import OWNERS, Config, ExportConfig
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.export import target
from mobileprune.export.target import AUTO, STOCK
from mobileprune.inspection.advice import SIZE, SPEED, Advice, advise, overall
from mobileprune.inspection.case import Case, Network, found, layers_of, planned
from mobileprune.inspection.contents import Layer
from mobileprune.inspection.sizes import expected
from mobileprune.inspection.view import FROM_MANIFEST, View
from mobileprune.models.folder import ModelFolder
from mobileprune.option import flag
from mobileprune.pruning import SpaceOptions

IMAGES: dict[str, tuple[tuple[int, int, int], int]] = {
    "digits": ((1, 28, 28), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion-mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
}
"""Named data set -> (C, H, W), classes: nothing is loaded or downloaded for an explanation."""
SUFFIXES = {".onnx": "onnx", ".ort": "ort", ".ptl": "torchscript-lite", ".tflite": "litert"}
CHANGEABLE = ("target", "precision", "sparse_format", "kernels")


@dataclass(frozen=True)
class Explanation:
    subject: str
    case: Case
    advice: tuple[Advice, ...]

    def to_dict(self) -> dict[str, Any]:
        network = self.case.network
        return {
            "subject": self.subject,
            "target": self.case.target,
            "precision": self.case.precision,
            "form": self.case.form,
            "pattern": network.pattern,
            "counted": network.counted,
            "weights": network.weights,
            "zeros": network.zeros,
            "dense_weights": network.dense_weights,
            "macs": network.macs,
            "zero_macs": network.zero_macs,
            "dense_macs": network.dense_macs,
            "expected_bytes": expected(self.case),
            "speed": overall(self.advice, SPEED),
            "size": overall(self.advice, SIZE),
            "advice": [asdict(advice) for advice in self.advice],
        }


def of_file(view: View, options: Mapping[str, Any]) -> Explanation:
    """Of a file, for its own target and form or those among ``options``.

    UsageError for what is no option of export, ArtifactError for a file whose weights nobody can count.
    """
    if idle := [name for name in options if OWNERS.get(name) != "export"]:
        raise UsageError(
            f"{view.path} is exported already: {', '.join(map(flag, idle))} would have no effect; leave it out"
        )
    if not view.contents.layers:
        raise ArtifactError(
            f"{view.path}: no weights can be counted in it; give the folder of an artifact, or an .onnx file"
        )
    manifest = view.manifest
    own = {"target": SUFFIXES.get(view.file.suffix, ""), "precision": "fp32", "sparse_format": AUTO, "kernels": STOCK}
    if manifest:
        own = {"target": manifest.target, "precision": manifest.precision, "sparse_format": manifest.storage["form"]}
        own["kernels"] = manifest.lineage["export"].get("kernels", STOCK)
    if not {"target", "precision"}.isdisjoint(options):
        own |= {"sparse_format": AUTO, "kernels": STOCK}
    wanted = ExportConfig(**own | {name: options[name] for name in CHANGEABLE if name in options})
    prune = manifest.lineage["prune"] if manifest else None
    contents, pattern = view.contents, prune and prune["pattern"]
    if FROM_MANIFEST in contents.notes and pattern == "channel":  # which counts what is not there as zeros
        left = (Layer(x.name, (x.total - x.zeros,), 0) for x in contents.layers)
        contents = replace(contents, layers=tuple(left))
    network = found(contents, manifest.sparsity if manifest else {}, pattern)
    return _explained(str(view.path), network, wanted)


def of_folder(folder: ModelFolder, config: Config, *, pruning: bool) -> Explanation:
    """Of a model folder, as it is or after ``pruning`` as configured."""
    model, info, x = folder.restore(), folder.info, torch.zeros(2, *folder.info.input_shape)
    if pruning:
        network = planned(model, SpaceOptions.of(config.prune), x)
    else:
        before, layers = info.config.get("prune"), layers_of(model, x)
        network = found(layers, info.sparsity, before and before["pattern"])
    return _explained(str(folder.path), network, config.export)


def of_plan(config: Config) -> Explanation:
    """Of a model that is not there yet, with the weights that it starts from."""
    shape, classes = images_of(config)
    model = models.build(
        config.train.model,
        num_classes=classes,
        input_shape=shape,
        seed=config.seed,
        width_mult=config.train.width_mult,
        norm=config.train.norm,
    )
    network = planned(model, SpaceOptions.of(config.prune), torch.zeros(2, *shape))
    return _explained(config.train.model, network, config.export)


def images_of(config: Config) -> tuple[tuple[int, int, int], int]:
    """(C, H, W) and the number of classes; only the user's own data are looked at."""
    name = config.data.dataset
    if name in IMAGES:
        return IMAGES[name]
    images = data.load(name, Path(config.data.data_dir) if config.data.data_dir else None, config.data.image_size)
    return images.shape, len(images.classes)


def _explained(subject: str, network: Network, wanted: ExportConfig) -> Explanation:
    target(wanted.target).check(wanted.precision, wanted.sparse_format, wanted.kernels)
    case = Case(network, wanted.target, wanted.precision, wanted.sparse_format, wanted.kernels)
    return Explanation(subject, case, advise(case))
