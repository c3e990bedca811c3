"""The verbs and the arguments that each takes: a new one needs an entry of VERBS here. Imports no torch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from mobileprune.cli.flags import OF_ENGINES, Argument, Group, argument, of_engines, of_fields
from mobileprune.config import SECTIONS, DataConfig, Effort
from mobileprune.serve import DEFAULT_PORT
from mobileprune.sweep.limits import PREFERENCES, Limits

POLICY = {
    "--max-auc": (0.60, "highest AUC over all members and held-out images"),
    "--max-canary-auc": (0.60, "highest AUC over the canaries"),
    "--auc-margin": (0.02, "how much AUC conversion and export may add"),
    "--tpr-margin": (0.02, "how much TPR at 1%% FPR conversion and export may add"),
    "--alpha": (0.05, "error rate of the verdict"),
}
GATE_FILES = {
    "--policy": "TOML file with these limits and gates over accuracy, size, latency and parity; flags win over it",
    "--junit": "write the verdict and the gates as JUnit XML, for CI",
    "--summary": "write them as Markdown, for a pull request",
}
FOREIGN = {
    "--predict": ("NAME", "a function package.module:function: pixels (N, C, H, W) in [0, 1] to (N, K) outputs"),
    "--outputs": ("FILE", "a table (.npz or .csv) of outputs, labels and membership"),
    "--kind": ("NAME", "what its outputs are: logits or probabilities (default: what they look like)"),
    "--mean": ("X", "mean per channel that a model file's input is normalised with (default: 0)"),
    "--std": ("X", "standard deviation per channel, likewise (default: 1)"),
}
DEVICE = {
    "--device": (
        "NAME",
        "where the file runs instead of in this process: local, qemu:CPU, ssh://USER@HOST, adb[:SERIAL]",
    ),
    "--device-runtime": ("FILE", "the libonnxruntime.so for that device, on this machine"),
    "--cpus": ("N,N", "CPUs of the device to keep to (default: any)"),
}
OF_REFERENCES = {
    "--model": "the function of yours that built the model: reference models run it",
    "--budget": "the budget file that it was pruned with, which reference models need too",
}
DEVICE_ACTIONS = ("list", "doctor", "setup", "remove")


def _given(table: dict[str, tuple[str, str]]) -> tuple[Argument, ...]:
    """Flags that leave no trace where they are not given."""
    return tuple(
        argument(name, metavar=metavar, default=argparse.SUPPRESS, help=text) for name, (metavar, text) in table.items()
    )


def _output(default: str) -> tuple[Argument, ...]:
    return (
        argument(*OUTPUT, type=Path, default=Path(default), help=f"folder to write (default: {default})"),
        argument("--force", action="store_true", help="replace an existing output"),
    )


OUTPUT = ("-o", "--output")
SOURCE = argument("source", nargs="?", type=Path, metavar="MODEL", help="model folder of `train` or `prune`")
ARTIFACT = argument("artifact", type=Path, metavar="ARTIFACT", help="folder made by `mobileprune export`")
OR_FILE = ARTIFACT.rule | {"help": "folder made by `mobileprune export`, or a model file"}
MODEL_FILE = argument("artifact", **OR_FILE)
ANY_MODEL = argument("artifact", **OR_FILE, nargs="?")
TIMING = (
    argument("--num-runs", type=int, default=50, help="at least this many timed runs (default: 50)"),
    argument("--warmup-runs", type=int, default=10, help="untimed runs before (default: 10)"),
    argument("--min-secs", type=float, default=0.5, help="at least this long for each (default: 0.5)"),
)

DATA = Group("data", of_fields(DataConfig, only=("dataset", "data_dir")))
"""Where the data are, for a verb that makes no model."""
SIZED = Group(DATA.title, of_fields(DataConfig, only=("dataset", "data_dir", "image_size")))
"""And what size images are brought to, where no manifest says it."""
MAKES = tuple(Group(section, of_fields(owner)) for section, owner in SECTIONS.items())
"""The whole configuration, section by section."""
NOT_OURS = Group("a model that mobileprune did not make", _given(FOREIGN))
VERSIONS = argument(
    "--versions",
    nargs="+",
    metavar="PATH",
    default=argparse.SUPPRESS,
    help="artifacts of the same model, made otherwise, that the attacker has too",
)
EFFORT = Group("attacker", (*of_fields(Effort, without=("versions",)), VERSIONS))
ATTACKER = Group(
    EFFORT.title, (*EFFORT.arguments, *_given({name: ("NAME", text) for name, text in OF_REFERENCES.items()}))
)
"""Where no configuration says what reference models are made of."""
SWEPT = (
    Group("attacker", of_fields(Effort, without=("versions", *OF_ENGINES))),
    Group("engine", of_engines()),
    Group(
        "choice",
        (
            *of_fields(Limits),
            argument(
                "--prefer",
                choices=tuple(PREFERENCES),
                default="size",
                help="of the artifacts that keep to every limit, the best in this (default: size)",
            ),
        ),
    ),
)
ON_DEVICE = Group("device", _given(DEVICE))
TIMED_ON_DEVICE = Group(
    ON_DEVICE.title,
    (
        *ON_DEVICE.arguments,
        argument("--profile", action="store_true", help="also the time of every node, by the runtime's clock"),
        argument(
            "--sustained",
            type=float,
            default=0.0,
            metavar="MINUTES",
            help="go on for so many minutes, to see whether the device slows down as it grows hot",
        ),
    ),
)
JUDGED = Group(
    "policy",
    (
        *(argument(name, type=Path, metavar="FILE", help=text) for name, text in GATE_FILES.items()),
        *(
            argument(name, type=float, default=argparse.SUPPRESS, metavar="X", help=f"{text} (default: {default})")
            for name, (default, text) in POLICY.items()
        ),
    ),
)

CONFIGURED = (
    argument("--seed", dest="seed", type=int, default=argparse.SUPPRESS, help="of every draw (default: 0)"),
    argument("--config", type=Path, help="TOML file; flags win over it"),
)
MADE = (
    *CONFIGURED,
    argument("--save-config", type=Path, help="write the resulting configuration as TOML"),
    argument("--dry-run", action="store_true", help="show the configuration and stop"),
)
LOG = argument("--log", metavar="WHERE", help="log the result to mlflow (./mlflow.db) or mlflow:URI")
WORK = (
    argument("--runs", type=Path, help="run store (default: $MOBILEPRUNE_RUNS or the user's cache)"),
    argument("--num-threads", type=int, default=1, metavar="N", help="threads (default: 1)"),
)
ALWAYS = (
    argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON; - is stdout"),
    argument("-q", "--quiet", action="store_true", help="no progress on stderr"),
    argument("-v", "--verbose", action="store_true", help="tracebacks of errors"),
)


@dataclass(frozen=True)
class Verb:
    """What help shows of a verb, in its order: its own arguments, groups, and the last group, ``general``."""

    help: str
    own: tuple[Argument, ...] = ()
    groups: tuple[Group, ...] = ()
    general: tuple[Argument, ...] = ()

    @property
    def all_groups(self) -> tuple[Group, ...]:
        return (*self.groups, Group("general", (*self.general, *ALWAYS)))

    @property
    def flags(self) -> set[str]:
        arguments = (*self.own, *(each for group in self.all_groups for each in group.arguments))
        return {name for each in arguments for name in each.names if name.startswith("--")}


VERBS = {
    "train": Verb("train the dense model", _output("dense"), MAKES[:2], (*MADE, *WORK)),
    "prune": Verb(
        "prune a model folder (trained first when none is given)",
        (SOURCE, *_output("pruned")),
        MAKES[:3],
        (*MADE, *WORK),
    ),
    "export": Verb(
        "train, prune, export, benchmark, attack and report: runs what is missing",
        (SOURCE, *_output("artifact")),
        (*MAKES, EFFORT, JUDGED),
        (*MADE, LOG, *WORK),
    ),
    "bench": Verb(
        "size, memory, load time and latency beside the dense model",
        (ARTIFACT, argument("--baseline", type=Path, help="another artifact to hold it against"), *TIMING),
        (DATA, TIMED_ON_DEVICE),
        WORK,
    ),
    "attack": Verb(
        "run every membership inference attack on an exported file, or on any model",
        (ANY_MODEL,),
        (SIZED, NOT_OURS, ATTACKER, ON_DEVICE),
        WORK,
    ),
    "audit": Verb(
        "attack and judge: exit 3 when it fails, 4 when inconclusive",
        (ANY_MODEL,),
        (SIZED, NOT_OURS, ATTACKER, ON_DEVICE, JUDGED),
        WORK,
    ),
    "report": Verb(
        "write report.html, card.html, report.md and report.json",
        (ARTIFACT, argument(*OUTPUT, type=Path, help="folder to write (default: ARTIFACT)")),
        (DATA, ATTACKER, ON_DEVICE, JUDGED),
        (LOG, *WORK),
    ),
    "sweep": Verb(
        "make and measure every combination of a grid of options, and choose among them",
        (
            argument("plan", type=Path, metavar="FILE", help="TOML file with [base], [grid] and [limits]"),
            *_output("sweep"),
            *TIMING,
        ),
        (SIZED, *SWEPT),
        (LOG, *WORK),
    ),
    "inspect": Verb(
        "verify an artifact and show what is in it; or any .onnx file",
        (
            MODEL_FILE,
            argument(
                "--lint", action="store_true", help="list what should not be in ARTIFACT, or in any .onnx or .ptl file"
            ),
        ),
    ),
    "compare": Verb(
        "show what differs between two artifacts or model files",
        tuple(argument(name, type=Path, metavar=name.upper(), help="artifact or model file") for name in ("a", "b")),
    ),
    "serve": Verb(
        "show run stores and folders of artifacts in a browser, on this machine only",
        (
            argument(
                "folders",
                nargs="*",
                type=Path,
                metavar="FOLDER",
                help="run store, or folder with artifacts or sweeps in it (default: the run store)",
            ),
            argument("--port", type=int, default=DEFAULT_PORT, help=f"0: any that is free (default: {DEFAULT_PORT})"),
        ),
    ),
    "explain": Verb(
        "say why an export will, or will not, be faster or smaller, before any work starts",
        (argument("source", nargs="?", type=Path, metavar="PATH", help="model folder, artifact or model file"),),
        MAKES,
        CONFIGURED,
    ),
    "devices": Verb(
        "list devices, check one, set up or remove the emulated ones",
        (
            argument(
                "action",
                nargs="?",
                choices=DEVICE_ACTIONS,
                default="list",
                metavar="ACTION",
                help=f"{', '.join(DEVICE_ACTIONS)} (default: list)",
            ),
            argument(
                "device",
                nargs="?",
                metavar="DEVICE",
                help="doctor: local, qemu:CPU, ssh://USER@HOST:PORT, adb or adb:SERIAL; setup and remove: qemu",
            ),
            argument(
                "--device-runtime",
                type=Path,
                metavar="FILE",
                help="doctor: libonnxruntime.so for the device, where mobileprune has none for it",
            ),
        ),
    ),
}
