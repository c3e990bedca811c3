"""The layers of the package and its black-box wall, enforced over every import, those inside functions included.

A module may import what lies below it. What judges a model sees an artifact through a runtime, or arrays.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mobileprune

PACKAGE = Path(mobileprune.__file__).parent
BASE = ["config", "errors", "files", "flatbuffer", "lazy", "schemas", "seeding", "silence"]
DIRECTLY_BELOW = {
    "errors": [],
    "flatbuffer": [],
    "lazy": [],
    "native": [],
    "schemas": [],
    "seeding": [],
    "silence": [],
    "sparse_operators": [],
    "torchvision_import": [],
    "config": ["errors", "seeding"],
    "files": ["errors"],
    "runs": BASE,
    "tensors": BASE,
    "torchscript": ["errors"],
    "resume": ["tensors"],
    "data": [*BASE, "torchvision_import"],
    "models": ["tensors", "torchvision_import"],
    "training": ["data", "models", "resume"],
    "defenses": ["training"],
    "pruning": ["defenses"],
    "convert": ["pruning"],
    "export": ["convert", "native", "sparse_operators", "torchscript"],
    "artifact": BASE,
    "engines": ["errors"],
    "devices": ["artifact", "native"],
    "runtimes": ["devices", "native", "sparse_operators", "torchscript"],
    "attacks": ["runtimes"],
    "bench": ["runtimes"],
    "audit": ["attacks", "bench"],
    "report": ["audit"],
    "pipeline": ["export", "runs", "runtimes"],
    "shadows": ["attacks", "engines", "pipeline"],
    "evaluate": ["audit", "shadows"],
    "inspection": ["bench", "pipeline"],
    "foreign": ["evaluate"],
    "results": ["evaluate"],
    "sweep": ["evaluate", "options", "report"],
    "tracking": ["results", "sweep"],
    "outputs": ["artifact", "models"],
    "options": ["pipeline"],
    "api": ["foreign", "inspection", "options", "outputs", "report", "tracking"],
    "__init__": ["api"],
    "serve": ["inspection", "report", "sweep"],
    "cli": ["__init__", "serve"],
    "__main__": ["cli"],
}
JUDGES = ("attacks", "audit", "bench")
WALL = ("data", "models", "training", "tensors", "resume", "defenses", "pruning", "convert", "export", "pipeline")


def below(name: str) -> set[str]:
    """All that ``name`` may import, itself included."""
    return {name}.union(*(below(other) for other in DIRECTLY_BELOW[name]))


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
        return [f"{layer} is in no layer: say in DIRECTLY_BELOW what it may import, as architecture.md has it"]
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


def test_the_layers_have_no_cycle_and_the_wall_has_no_hole() -> None:
    for layer in DIRECTLY_BELOW:
        assert all(layer not in below(other) for other in DIRECTLY_BELOW[layer]), layer
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
