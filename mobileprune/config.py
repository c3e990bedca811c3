"""Configuration: one frozen dataclass per step, TOML in and out, every problem reported at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mobileprune.errors import ConfigError, UsageError, unknown
from mobileprune.option import flag, option, problems_of

KEEP_DENSE = ("none", "first", "last", "first-last")
NORMS = ("batch", "group")
PRECISIONS = ("fp32", "fp16", "int8")
KERNELS = ("stock", "native", "measured")
ENGINES = ("local", "ray")
WHERE = ("jobs", "engine", "address")
"""Options of Effort that say where work is done, not what."""
MOST_CANARIES = 0.5
MOST_TEST = 10_000
"""Test images; what data have beyond is not used."""
LEAST_SIDE, MOST_SIDE = 8, 4096
"""Pixels, of what images are brought to."""
AUGMENTATIONS = ("none", "flip", "crop", "crop-flip")
Access = Literal["labels", "top-k", "probabilities", "logits", "file"]
ACCESS: tuple[Access, ...] = get_args(Access)
"""The access ladder, least first: the predicted label; the probabilities of the k likeliest classes; all of them; the
values before softmax; the exported file itself, weights included."""


@dataclass(frozen=True)
class DataConfig:
    dataset: str = option("digits", "digits, mnist, fashion-mnist, cifar10, cifar100, folder:PATH or npz:PATH")
    data_dir: str | None = option(None, "where a named data set lies or is downloaded to")
    members: int | None = option(None, "training images, and as many held-out ones", low=1)
    canaries: float | None = option(
        None,
        "share of members and held-out images that get a wrong label (0.1 for named sets, 0 for your own)",
        low=0.0,
        high=MOST_CANARIES,
    )
    redraw: int | None = option(None, "throw the coins of membership anew: the data of the N-th reference model", low=0)
    image_size: int | None = option(
        None,
        "bring each image of folder:PATH to N x N pixels: the shorter side to N, then the middle",
        low=LEAST_SIDE,
        high=MOST_SIDE,
    )


@dataclass(frozen=True)
class TrainConfig:
    model: str = option("lenet5", "a model of mobileprune, torchvision:NAME, timm:NAME or package.module:function")
    width_mult: float = option(1.0, "width multiplier, for models that have one (mobilenetv2)", low=0.05, high=4.0)
    norm: str = option("batch", "normalisation layers as the model has them, or all as group norm", choices=NORMS)
    checkpoint: str | None = option(None, "start from these weights (.safetensors or .pt state dict), do not train")
    mean: str | None = option(None, "mean per channel that inputs are normalised with, 0.485,0.456,0.406 (members')")
    std: str | None = option(None, "standard deviation per channel, likewise")
    epochs: int = option(100, "epochs of dense training", low=1)
    lr: float = option(1e-3, "Adam's learning rate", low=1e-8, high=10)
    batch_size: int = option(64, "images a step", low=2)
    augment: str = option("none", "random crops (padded by an eighth) and mirroring", choices=AUGMENTATIONS)
    train_defense: str = option("none", "defences during dense training, such as minmax:1 or dpsgd:8")


@dataclass(frozen=True)
class PruneConfig:
    method: str = option("mia", "mia, admm, magnitude, gradual, taylor, random, ... (an unknown name lists all)")
    sparsity: float = option(0.9, "share of zeros among the prunable weights, in [0, 1)", low=0.0, below=1.0)
    pattern: str = option("unstructured", "unstructured, block:8x1, 2:4, filter or channel (taken out)")
    channel_ratio: float | None = option(
        None, "share of channels to remove, instead of --sparsity (pattern channel or filter)", low=0.0, below=1.0
    )
    round_to: int = option(8, "channels that are kept come in multiples of this (pattern channel)", low=1)
    budget: str = option("uniform", "sparsity of each layer: uniform, global, erk, or a TOML file of your own")
    keep_dense: str = option("none", "layers left unpruned", choices=KEEP_DENSE)
    defense: str = option("none", "defences while pruning and retraining, such as minmax:1 or early-stopping+ppb:4")
    prune_epochs: int = option(30, "epochs of the pruning stage (methods mia, admm, gradual)", low=1)
    retrain_epochs: int = option(30, "most epochs of masked retraining: more recover accuracy, and memories", low=0)


@dataclass(frozen=True)
class ExportConfig:
    target: str = option("onnx", "onnx, torchscript-lite, ort, executorch, litert or mnn")
    precision: str = option("fp32", "bits of a weight; int8 computes in int8", choices=PRECISIONS)
    sparse_format: str = option("auto", "how zeros are stored: dense, coo, packed, ...; auto is the smallest")
    kernels: str = option(
        "stock",
        "layers with many zeros are for the runtime's kernels, or for mobileprune's (by rule, or as measured here)",
        choices=KERNELS,
    )
    opset: int = option(18, "ONNX opset", low=1)
    bytecode_version: int | None = option(None, "TorchScript-lite bytecode: 4, 5, 7 or 8", low=1)
    bake_preprocessing: bool = option(False, "put (x - mean) / std into the graph")
    harden: str = option("none", "outputs as the graph gives them: temperature:2, round:2, topk:3 or label-only")
    atol: float = option(1e-4, "largest difference allowed between exported file and PyTorch model", low=0.0, high=1.0)
    rtol: float = option(1e-4, "what may be added to it, as a share of the largest logit", low=0.0, high=1.0)
    min_agreement: float = option(
        0.9,
        "below fp32: share of inputs for which file and PyTorch model must choose the same class",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    seed: int = option(0, "the seed of every random draw", low=0)

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ConfigError(problems)

    @property
    def training_seed(self) -> int:
        """Of initialisation, order of batches and all else but the split. A redraw has its own: whoever makes reference
        models knows the seed of the split from the manifest, but must not train from the very weights of the target."""
        if self.data.redraw is None:
            return self.seed
        from mobileprune.seeding import stream  # brings numpy, which --help can do without

        return stream(self.seed, "redraw", self.data.redraw)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Effort:
    """How far the attacker of ``attack`` and ``audit`` goes. ``versions``: artifacts of the same model that they also
    have. ConfigError lists everything that is wrong."""

    access: str = option("logits", "the most that the attacker sees; file: the weights too", choices=ACCESS)
    references: int = option(0, "models trained, pruned and exported as this one was, to attack with", low=0, high=1024)
    queries: int = option(1, "changed copies of each image, of each kind, to ask about too; 1: none", low=1, high=1000)
    jobs: int = option(1, "reference models made at a time, each in a process of its own", low=1)
    engine: str = option("local", "where they are made: processes of this machine, or a Ray cluster", choices=ENGINES)
    address: str | None = option(None, "of a running Ray cluster: HOST:PORT, or auto")
    versions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = list(problems_of(self, [f for f in fields(self) if f.name != "versions"]))
        if not problems and self.references % 2:
            problems = [f"--references {self.references}: must be even; then each example is in exactly half of them"]
        if not problems and not self.references:
            idle = [f.name for f in fields(self) if f.name in WHERE and getattr(self, f.name) != f.default]
            problems = [f"{flag(n)} {getattr(self, n)} has no effect without --references; leave it out" for n in idle]
        if problems:
            raise ConfigError(problems)

    def to_dict(self) -> dict[str, Any]:
        """As results have it: what the attacker does, not where."""
        values = {**asdict(self), "versions": len(self.versions)}
        return {name: value for name, value in values.items() if name not in WHERE[1:]}


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "train": TrainConfig,
    "prune": PruneConfig,
    "export": ExportConfig,
}


def _problems(config: Config) -> Iterator[str]:
    yield from problems_of(config, [f for f in fields(config) if f.name not in SECTIONS])
    for name, section in SECTIONS.items():
        yield from problems_of(getattr(config, name), fields(section))


def from_dict(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """``base`` (the defaults) with the nested ``values`` laid over it; ConfigError lists all problems."""
    base = base or Config()
    problems: list[str] = []
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name == "seed":
            changes[name] = value
        elif name in SECTIONS and not isinstance(value, Mapping):
            problems.append(_no_section(name, value))
        elif name not in SECTIONS:
            problems.append(f"unknown section [{name}]: choose from seed, {', '.join(SECTIONS)}")
        else:
            known = {f.name for f in fields(SECTIONS[name])}
            problems += [
                f"[{name}] has no {key!r}: choose from {', '.join(sorted(known))}" for key in value.keys() - known
            ]
            changes[name] = replace(getattr(base, name), **{key: v for key, v in value.items() if key in known})
    try:
        made = replace(base, **changes)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return made


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError([f"--config {path}: {error}"]) from error


def to_toml(values: Mapping[str, Any]) -> str:
    """The inverse of :func:`read_toml` for nested values; those that are not set are left out."""
    lines = [f"seed = {values['seed']}"] if "seed" in values else []
    for section in SECTIONS:
        if section in values:
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in values[section].items() if value is not None]
    return "\n".join(lines).strip() + "\n"


OWNERS = {item.name: name for name, section in SECTIONS.items() for item in fields(section)}
"""Option name -> its section; names are unique over all sections."""


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Flat ``options`` (``sparsity=0.9, seed=1``) as the nested values of :func:`from_dict`; UsageError for others."""
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key == "seed":
            values["seed"] = value
        elif key in OWNERS:
            values.setdefault(OWNERS[key], {})[key] = value
        else:
            check_not_effort({key})
            raise unknown("option", key, ["seed", *OWNERS])
    return values


def check_not_effort(names: Set[str]) -> None:
    """UsageError for the attacker's options where a model's are taken: in Python they are a value of their own."""
    for name in sorted(names & {item.name for item in fields(Effort)}):
        raise UsageError(f"{name} is the attacker's: give effort=Effort({name}=...), or the flag {flag(name)}")


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`nested`; ConfigError where a section is none."""
    sections = {key: value for key, value in values.items() if key in SECTIONS}
    wrong = [_no_section(key, value) for key, value in sections.items() if not isinstance(value, Mapping)]
    if wrong:
        raise ConfigError(wrong)
    options: dict[str, Any] = {}
    for key, value in values.items():
        options |= value if key in SECTIONS else {key: value}
    return options


def _no_section(name: str, value: Any) -> str:
    return f"{name} must be a section with its options, got {str(value)[:40]!r}"


def _toml(value: Any) -> str:
    """A JSON scalar is a TOML scalar of the same meaning."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
