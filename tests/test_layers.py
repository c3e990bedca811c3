"""The layers of the package and its black-box wall, enforced over every import, those inside functions included.

A module may import what lies below it. What judges a model sees an artifact through a runtime, or arrays.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mobileprune

PACKAGE = Path(mobileprune.__file__).parent
BASE = [
    *("atomic", "bounds", "config", "errors", "files", "flatbuffer", "lazy", "option"),
    *("schemas", "seeding", "silence", "source_date"),
]


class Layer(NamedTuple):
    """What a module or subpackage is for, and what it may import beside what those may."""

    purpose: str
    below: list[str]


DIRECTLY_BELOW: dict[str, Layer] = {
    "errors": Layer("every exception and its exit code", []),
    "atomic": Layer("files and folders that are never half-written", ["errors"]),
    "bounds": Layer("what files from elsewhere may hold at most", []),
    "flatbuffer": Layer("reads a FlatBuffer by field numbers", []),
    "lazy": Layer("arrays that exist only where they are sliced", []),
    "native": Layer("finds what was built with the package: operators and the runner for devices", []),
    "onnx_runtime": Layer("loads ONNX Runtime, its telemetry off, and builds its sessions", []),
    "option": Layer("a field of a dataclass with the rule for its value", []),
    "schemas": Layer("the JSON that is written and read, as a JSON Schema", []),
    "seeding": Layer("named streams of one seed", []),
    "silence": Layer("keeps native libraries from printing", []),
    "source_date": Layer("what reproducible builds give for now", ["errors"]),
    "sparse_operators": Layer("the operators of the native library, as a file names them", []),
    "torchvision_import": Layer("torchvision also beside a torch that its operators do not fit", []),
    "config": Layer("the options of every step, in TOML too", ["errors", "option", "seeding"]),
    "files": Layer("reads and hashes files, writes text and JSON", ["atomic"]),
    "runs": Layer("the store of what steps have made, by the hash of what went in", BASE),
    "tensors": Layer("tensors on disk, by safetensors", BASE),
    "torchscript": Layer("whether torch still has TorchScript", ["errors"]),
    "resume": Layer("the state of training on disk", ["tensors"]),
    "data": Layer("images and who is a member", [*BASE, "torchvision_import"]),
    "models": Layer("architectures, checkpoints and folders of models", ["tensors", "torchvision_import"]),
    "training": Layer("the one training loop", ["data", "models", "resume"]),
    "defenses": Layer("what makes training leak less", ["training"]),
    "pruning": Layer("which weights become zero", ["defenses"]),
    "convert": Layer("what is done to a trained network before export", ["pruning"]),
    "export": Layer(
        "writes a target's file, looks what must not be in it, and compares it with the network",
        ["convert", "native", "onnx_runtime", "sparse_operators", "torchscript"],
    ),
    "artifact": Layer("a folder with one exported file and its manifest", BASE),
    "engines": Layer("where tasks run: processes or a cluster", ["errors"]),
    "devices": Layer("where else a file runs: emulated, by ssh or by adb", ["artifact", "native"]),
    "runtimes": Layer(
        "asks an exported file, here or on a device",
        ["devices", "native", "onnx_runtime", "sparse_operators", "torchscript"],
    ),
    "attacks": Layer("from what an attacker has to a score for every example", ["runtimes"]),
    "bench": Layer("size, memory and time of an artifact", ["runtimes"]),
    "audit": Layer("statistics of scores, and the verdict", ["attacks", "bench"]),
    "report": Layer("HTML, Markdown and JSON for people", ["audit"]),
    "pipeline": Layer("steps from data to artifact, each made once", ["export", "runs", "runtimes"]),
    "shadows": Layer("reference models, made as the target was", ["attacks", "engines", "pipeline"]),
    "evaluate": Layer("asks an artifact, its source and its baseline the same, and judges", ["audit", "shadows"]),
    "inspection": Layer("what is in a file, what differs, and what an export will gain", ["bench", "pipeline"]),
    "foreign": Layer("attacks on models that mobileprune did not make", ["evaluate"]),
    "results": Layer("what the verbs that judge return", ["evaluate"]),
    "sweep": Layer("a grid of options, measured, and a choice", ["evaluate", "options", "report"]),
    "tracking": Layer("results in MLflow", ["results", "sweep"]),
    "outputs": Layer("where results may be written", ["artifact", "models"]),
    "options": Layer("the options of verbs laid over a configuration", ["pipeline"]),
    "api": Layer("one function a verb", ["foreign", "inspection", "options", "outputs", "report", "tracking"]),
    "__init__": Layer("the API, imported on first use", ["api"]),
    "serve": Layer("run stores and artifacts in a browser", ["inspection", "report", "sweep"]),
    "cli": Layer("the command line", ["__init__", "serve"]),
    "__main__": Layer("`python -m mobileprune`", ["cli"]),
}
"""The map of the package: every module and subpackage directly below ``mobileprune``."""
JUDGES = ("attacks", "audit", "bench")
WALL = ("data", "models", "training", "tensors", "resume", "defenses", "pruning", "convert", "export", "pipeline")


def below(name: str) -> set[str]:
    """All that ``name`` may import, itself included."""
    return {name}.union(*(below(other) for other in DIRECTLY_BELOW[name].below))


def layer_of(path: Path) -> str:
    """The module or subpackage directly below ``mobileprune`` that the file belongs to."""
    return path.parts[0].removesuffix(".py")


def imports(tree: ast.AST, path: Path) -> Iterator[str]:
    """Full names of everything imported anywhere; ``from a import b`` as a.b."""
    here = ("mobileprune", *path.with_suffix("").parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = [*here[: len(here) - node.level]] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def wrong_imports(source: str, path: Path) -> list[str]:
    found, layer = [], layer_of(path)
    if layer not in DIRECTLY_BELOW:
        return [f"{layer} is in no layer: say in DIRECTLY_BELOW what it is for and what it may import"]
    for name in imports(ast.parse(source), path):
        top, _, rest = name.partition(".")
        if top == "mobileprune":
            first = rest.partition(".")[0]
            target = first if first in DIRECTLY_BELOW or (PACKAGE / first).is_dir() else "__init__"
            if target not in below(layer) and name != "mobileprune.__version__":
                found.append(f"{layer} may not import {name}")
            if layer in JUDGES and target in WALL:
                found.append(f"{name} is behind the black-box wall")
        elif top in ("torch", "torchvision") and layer in JUDGES:
            found.append(f"{layer} may not import {name}: what judges sees arrays, not models")
        elif top == "onnxruntime" and layer != "onnx_runtime":
            found.append(f"{name}: only onnx_runtime may import it, which switches its telemetry off before")
    return found


def unsafe_calls(source: str) -> list[str]:
    """Calls that run what a file or a string says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "dill", "cloudpickle", "marshal", "shelve"):
            found.append(f"from {node.module} import ...")
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in ("eval", "exec", "os.system", "os.popen", "joblib.load", "yaml.load"):
            found.append(name)
        if name.partition(".")[0] in ("pickle", "dill", "cloudpickle", "marshal", "shelve"):
            found.append(name)
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if name.endswith(".load") and options.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle")
        if options.get("shell", "False") != "False":
            found.append(f"{name} with shell")
    return found


FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=Path.as_posix)
def test_a_module_imports_only_what_lies_below_it(path) -> None:
    assert wrong_imports((PACKAGE / path).read_text("utf-8"), path) == []


@pytest.mark.parametrize("path", FILES, ids=Path.as_posix)
def test_nothing_runs_what_a_file_says(path) -> None:
    assert unsafe_calls((PACKAGE / path).read_text("utf-8")) == []


def test_the_map_has_every_part_of_the_package_and_no_other() -> None:
    assert DIRECTLY_BELOW.keys() == {layer_of(path) for path in FILES}
    assert all(layer.purpose for layer in DIRECTLY_BELOW.values())


def test_the_layers_have_no_cycle_and_the_wall_has_no_hole() -> None:
    for layer in DIRECTLY_BELOW:
        assert all(layer not in below(other) for other in DIRECTLY_BELOW[layer].below), layer
    for judge in JUDGES:
        assert below(judge).isdisjoint(WALL)
    assert below("export").isdisjoint({"artifact", "runtimes", *JUDGES, "api", "cli"})


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("import mobileprune.models", "attacks/new.py"),
        ("from mobileprune import training", "audit/new.py"),
        ("def f():\n    from mobileprune.pipeline.export import export", "bench/new.py"),
        ("def f():\n    import torch.nn as nn", "attacks/new.py"),
        ("if TYPE_CHECKING:\n    from torch import Tensor", "audit/new.py"),
        ("from ..models import build", "attacks/new.py"),
        ("import importlib\nimportlib.import_module('mobileprune.pruning')", "audit/new.py"),
        ("from mobileprune.cli import show", "export/new.py"),
        ("from mobileprune import api", "runtimes/new.py"),
        ("from mobileprune.evaluate import ask", "convert/new.py"),
        ("from mobileprune import export", "pruning/new.py"),
        ("import mobileprune", "config.py"),
        ("def f():\n    import onnxruntime", "runtimes/new.py"),
        ("from onnxruntime.quantization import quantize_static", "export/new.py"),
        ("import os", "brand_new.py"),
    ],
)
def test_the_checker_finds_an_offender(source, path) -> None:
    assert wrong_imports(source, Path(path))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(file)",
        "def f():\n    return eval(text)",
        "exec(code)",
        "subprocess.run(line, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "from pickle import loads",
    ],
)
def test_the_checker_finds_an_unsafe_call(source) -> None:
    assert unsafe_calls(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "torch.load(p, weights_only=True)",
        "np.load(p, allow_pickle=False)",
        "except pickle.UnpicklingError",
    ],
)
def test_the_checker_lets_harmless_calls_pass(source) -> None:
    assert unsafe_calls(f"try: pass\n{source}: pass" if source.startswith("except") else source) == []


def test_judging_loads_no_torch() -> None:
    """The proof by running: all of attacks, audit and bench imported in a fresh process."""
    names = [".".join(("mobileprune", *p.with_suffix("").parts)) for p in FILES if layer_of(p) in JUDGES]
    code = "import importlib, sys\nfor n in sys.argv[1:]: importlib.import_module(n)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
