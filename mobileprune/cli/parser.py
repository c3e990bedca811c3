"""The parser: one flag a configuration field, one list of verbs. Imports no torch."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from mobileprune import __version__
from mobileprune.cli.flags import add_choice, add_option, add_swept
from mobileprune.config import (
    OWNERS,
    SECTIONS,
    Effort,
    flag,
    flat,
    from_dict,
    read_toml,
)
from mobileprune.errors import UsageError
from mobileprune.serve import DEFAULT_PORT
from mobileprune.sweep.limits import Limits

EXIT_CODES = """exit codes:
  0    done; an audit passed
  1    error
  2    wrong usage or configuration
  3    the audit or a gate of --policy failed, lint found something, or nothing in a sweep keeps to its limits
  4    the audit or a gate of --policy was inconclusive
  5    device or target unavailable
  130  interrupted
"""
POLICY = {
    "--max-auc": (0.60, "highest AUC over all members and held-out images"),
    "--max-canary-auc": (0.60, "highest AUC over the canaries"),
    "--auc-margin": (0.02, "how much AUC deployment may add"),
    "--tpr-margin": (0.02, "how much TPR at 1%% FPR deployment may add"),
    "--alpha": (0.05, "error rate of the verdict"),
}
GATE_FILES = {
    "--policy": "TOML file with these limits and gates over accuracy, size, latency and parity; flags win over it",
    "--junit": "write the verdict and the gates as JUnit XML, for CI",
    "--summary": "write them as Markdown, for a pull request",
}
STRANGERS = {
    "--predict": ("NAME", "a function package.module:function: pixels (N, C, H, W) in [0, 1] to (N, K) outputs"),
    "--outputs": ("FILE", "a table (.npz or .csv) of outputs, labels and membership"),
    "--kind": ("NAME", "what its outputs are: logits or probabilities (default: what they look like)"),
    "--mean": ("X", "mean per channel that a model file's input is normalised with (default: 0)"),
    "--std": ("X", "standard deviation per channel, likewise (default: 1)"),
}
ATTACKING, JUDGING = ("attack", "audit", "report", "export"), ("audit", "report", "export")
LOGGED = ("export", "report", "sweep")
ANY_MODEL = ("attack", "audit")
ON_DEVICES = ("bench", "attack", "audit", "report")
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
MAKES = ("data", "train", "prune", "export")


def verbs() -> dict[str, tuple[str, tuple[str, ...]]]:
    """verb -> (help, configuration sections it takes)"""
    return {
        "train": ("train the dense model", MAKES[:2]),
        "prune": ("prune a model folder (trained first when none is given)", MAKES[:3]),
        "export": ("train, prune, export, benchmark, attack and report: runs what is missing", MAKES),
        "bench": ("size, memory, load time and latency beside the dense model", ("data",)),
        "attack": ("run every membership inference attack on an exported file, or on any model", ("data",)),
        "audit": ("attack and judge: exit 3 when it fails, 4 when inconclusive", ("data",)),
        "report": ("write report.html, card.html, report.md and report.json", ("data",)),
        "sweep": ("make and measure every combination of a grid of options, and choose among them", ("data",)),
        "inspect": ("verify an artifact and show what is in it; or any .onnx file", ()),
        "compare": ("show what differs between two artifacts or model files", ()),
        "serve": ("show run stores and folders of artifacts in a browser, on this machine only", ()),
        "explain": ("say why an export will, or will not, be faster or smaller, before any work starts", MAKES),
        "devices": ("list devices, check one, set up or remove the emulated ones", ()),
    }


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)  # an abbreviation breaks when an option is added

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {_suggestion(message)}see {self.prog} --help")


def _suggestion(message: str) -> str:
    """``did you mean ...?`` for a flag or verb that argparse does not know."""
    attacker = (flag(item.name) for item in fields(Effort))
    choice = (flag(item.name) for item in fields(Limits))
    known = {
        *verbs(),
        *(flag(name) for name in ("seed", *OWNERS)),
        *POLICY,
        *GATE_FILES,
        *STRANGERS,
        *DEVICE,
        *attacker,
        *choice,
    }
    wrong = re.search(r"(?:unrecognized arguments: .*?|invalid choice: ')(--[\w-]+|\w+)", message)
    near = difflib.get_close_matches(wrong[1], known, n=1) if wrong else []
    return f"did you mean {near[0]!r}? " if near else ""


def parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="mobileprune",
        description="Prune an image classifier, export it for phones, and re-attack the exported file.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mobileprune {__version__}")
    chosen = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for verb, (text, sections) in verbs().items():
        sub = chosen.add_parser(
            verb, help=text, description=text, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        _positional(sub, verb)
        for section in sections:
            _section(sub.add_argument_group(section), section, make="train" in sections)
        if verb in ANY_MODEL:
            _strangers(sub.add_argument_group("a model that mobileprune did not make"))
        if verb in ATTACKING:
            _attacker(sub.add_argument_group("attacker"), make="train" in sections)
        if verb == "sweep":
            add_swept(sub.add_argument_group("attacker"), sub.add_argument_group("engine"))
            add_choice(sub.add_argument_group("choice"))
        if verb in ON_DEVICES:
            _device(sub.add_argument_group("device"), verb)
        if verb in JUDGING:
            _policy(sub.add_argument_group("policy"))
        _common(sub, verb)
    return top


def _positional(sub: argparse.ArgumentParser, verb: str) -> None:
    if verb in ("prune", "export"):
        sub.add_argument("source", nargs="?", type=Path, metavar="MODEL", help="model folder of `train` or `prune`")
    elif verb == "explain":
        sub.add_argument("source", nargs="?", type=Path, metavar="PATH", help="model folder, artifact or model file")
    elif verb == "sweep":
        sub.add_argument("plan", type=Path, metavar="FILE", help="TOML file with [base], [grid] and [limits]")
    elif verb == "compare":
        for name in ("a", "b"):
            sub.add_argument(name, type=Path, metavar=name.upper(), help="artifact or model file")
    elif verb == "devices":
        _devices(sub)
    elif verb == "serve":
        text = "run store, or folder with artifacts or sweeps in it (default: the run store)"
        sub.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help=text)
        sub.add_argument(
            "--port", type=int, default=DEFAULT_PORT, help=f"0: any that is free (default: {DEFAULT_PORT})"
        )
    elif verb != "train":
        or_file = ", or a model file" if verb == "inspect" or verb in ANY_MODEL else ""
        text = f"folder made by `mobileprune export`{or_file}"
        optional: dict[str, Any] = {"nargs": "?"} if verb in ANY_MODEL else {}
        sub.add_argument("artifact", type=Path, metavar="ARTIFACT", help=text, **optional)
    defaults = {"train": "dense", "prune": "pruned", "export": "artifact", "sweep": "sweep"}
    if verb in defaults or verb == "report":
        shown = defaults.get(verb)
        sub.add_argument(
            "-o",
            "--output",
            type=Path,
            default=shown and Path(shown),
            help=f"folder to write (default: {shown or 'ARTIFACT'})",
        )
    if verb in defaults:
        sub.add_argument("--force", action="store_true", help="replace an existing output")
    if verb == "inspect":
        sub.add_argument(
            "--lint", action="store_true", help="list what should not be in ARTIFACT, or in any .onnx or .ptl file"
        )
    if verb == "bench":
        sub.add_argument("--baseline", type=Path, help="another artifact to hold it against")
    if verb in ("bench", "sweep"):
        sub.add_argument("--num-runs", type=int, default=50, help="at least this many timed runs (default: 50)")
        sub.add_argument("--warmup-runs", type=int, default=10, help="untimed runs before (default: 10)")
        sub.add_argument("--min-secs", type=float, default=0.5, help="at least this long for each (default: 0.5)")


def _devices(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "action",
        nargs="?",
        choices=DEVICE_ACTIONS,
        default="list",
        metavar="ACTION",
        help=f"{', '.join(DEVICE_ACTIONS)} (default: list)",
    )
    text = "doctor: local, qemu:CPU, ssh://USER@HOST:PORT, adb or adb:SERIAL; setup and remove: qemu"
    sub.add_argument("device", nargs="?", metavar="DEVICE", help=text)
    text = "doctor: libonnxruntime.so for the device, where mobileprune has none for it"
    sub.add_argument("--device-runtime", type=Path, metavar="FILE", help=text)


def _section(group: Any, section: str, *, make: bool) -> None:
    """One flag a field. A verb that makes no model takes only what says where its data are."""
    for item in fields(SECTIONS[section]):
        if make or item.name in ("dataset", "data_dir"):
            add_option(group, SECTIONS[section], item)


def _strangers(group: Any) -> None:
    for name, (metavar, text) in STRANGERS.items():
        group.add_argument(name, metavar=metavar, default=argparse.SUPPRESS, help=text)


def _attacker(group: Any, *, make: bool) -> None:
    for item in fields(Effort):
        if item.name != "versions":
            add_option(group, Effort, item)
    text = "artifacts of the same model, made otherwise, that the attacker has too"
    group.add_argument("--versions", nargs="+", metavar="PATH", default=argparse.SUPPRESS, help=text)
    if not make:
        for name, text in OF_REFERENCES.items():
            group.add_argument(name, metavar="NAME", default=argparse.SUPPRESS, help=text)


def _device(group: Any, verb: str) -> None:
    for name, (metavar, text) in DEVICE.items():
        group.add_argument(name, metavar=metavar, default=argparse.SUPPRESS, help=text)
    if verb == "bench":
        group.add_argument("--profile", action="store_true", help="also the time of every node, by the runtime's clock")
        text = "go on for so many minutes, to see whether the device slows down as it grows hot"
        group.add_argument("--sustained", type=float, default=0.0, metavar="MINUTES", help=text)


def _policy(group: Any) -> None:
    for name, text in GATE_FILES.items():
        group.add_argument(name, type=Path, metavar="FILE", help=text)
    for name, (default, text) in POLICY.items():
        shown = f"{text} (default: {default})"
        group.add_argument(name, type=float, default=argparse.SUPPRESS, metavar="X", help=shown)


def _common(sub: argparse.ArgumentParser, verb: str) -> None:
    group = sub.add_argument_group("general")
    if verb in ("train", "prune", "export", "explain"):
        group.add_argument(
            "--seed", dest="seed", type=int, default=argparse.SUPPRESS, help="of every draw (default: 0)"
        )
        group.add_argument("--config", type=Path, help="TOML file; flags win over it")
    if verb in ("train", "prune", "export"):
        group.add_argument("--save-config", type=Path, help="write the resulting configuration as TOML")
        group.add_argument("--dry-run", action="store_true", help="show the configuration and stop")
    if verb in LOGGED:
        group.add_argument("--log", metavar="WHERE", help="log the result to mlflow (./mlflow.db) or mlflow:URI")
    if verb not in ("inspect", "compare", "explain", "devices", "serve"):
        group.add_argument("--runs", type=Path, help="run store (default: $MOBILEPRUNE_RUNS or the user's cache)")
        group.add_argument("--num-threads", type=int, default=1, metavar="N", help="threads (default: 1)")
    group.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON; - is stdout")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    group.add_argument("-v", "--verbose", action="store_true", help="tracebacks of errors")


def options_from(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, flat: those of ``--config``, then those of flags."""
    options: dict[str, Any] = {}
    if getattr(args, "config", None):
        values = read_toml(args.config)
        from_dict(values)  # names every problem of the file
        options = flat(values)
    return options | {key: value for key, value in vars(args).items() if key == "seed" or key in OWNERS}
