"""The examples for CI are run, not only read: their commands gate a model, and the image has all that it needs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mobileprune.audit import gates
from mobileprune.cli.parser import parser

ROOT = Path(__file__).parents[3]
CI = ROOT / "export" / "ci"
yaml = pytest.importorskip("yaml", reason="timm, of the dev extra, brings PyYAML")


def scripts(value: Any) -> Iterator[str]:
    """The shell lines of every job."""
    for job in (value.get("jobs") or {"privacy": value["privacy"]}).values():
        yield from (step["run"] for step in job.get("steps", []) if "run" in step)
        yield from (*job.get("before_script", []), *job.get("script", []))


def ours(name: str) -> list[list[str]]:
    """The mobileprune command lines of an example, without the name of the program."""
    lines = scripts(yaml.safe_load((CI / name).read_text("utf-8")))
    return [shlex.split(line)[1:] for line in lines if line.startswith("mobileprune ")]


def photos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(240):
        path = folder / "cd"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(path)


@pytest.mark.parametrize("own", [False, True], ids=["digits", "images of one's own"])
def test_the_command_gates_a_model(
    quick_bench, command: Any, tiny: Any, tmp_path: Path, monkeypatch: Any, own: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    photos(Path("photos"))
    data = ("--dataset", "folder:photos") if own else ()
    assert command("export", *tiny, *data, "--save-config", "mobileprune.toml", "--dry-run").code == 0
    shutil.copy(CI / "policy.toml", "policy.toml")
    (argv,) = ours("github.yml")
    made = command(*argv)
    assert made.code in (3, 4), f"a model that learnt nothing cannot be shown to keep to the policy: {made.err}"
    assert Path("out", "model.onnx").exists(), "what is red can be looked at"
    assert f"mobileprune: {'fail' if made.code == 3 else 'inconclusive'}" in Path("audit.md").read_text()
    suite = ElementTree.parse("audit.xml").getroot()
    assert int(suite.attrib["failures"]) + int(suite.attrib["errors"]) > 0


def test_both_examples_run_the_same_commands() -> None:
    assert ours("github.yml") == ours("gitlab.yml")
    for argv in ours("github.yml"):
        parser().parse_args(argv)


def test_github_hears_of_the_result_even_when_it_is_red() -> None:
    value = yaml.safe_load((CI / "github.yml").read_text("utf-8"))
    steps = value["jobs"]["privacy"]["steps"]
    after = steps[max(i for i, step in enumerate(steps) if "--policy" in step.get("run", "")) + 1 :]
    assert [step["if"] for step in after] == ["always()", "always()"]
    assert not any("continue-on-error" in step for step in steps), "a gate that is ignored is none"
    assert value["permissions"] == {"contents": "read"}


def test_gitlab_keeps_the_result_even_when_it_is_red() -> None:
    job = yaml.safe_load((CI / "gitlab.yml").read_text("utf-8"))["privacy"]
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"] == {"junit": "audit.xml"}
    assert not job.get("allow_failure", False)


def test_the_policy_is_one() -> None:
    limits = gates.read(CI / "policy.toml")
    assert limits.policy.max_auc == 0.6
    assert dict(limits.limits) == {"accuracy.max_drop": 0.02, "added.max_auc": 0.02, "size.max_ratio": 0.25}


def instructions() -> list[tuple[str, str]]:
    lines = (CI / "Dockerfile").read_text("utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def test_the_image_copies_what_the_package_is_built_from(tmp_path: Path) -> None:
    """A wheel is built from a folder that has only what the Dockerfile copies."""
    for word, rest in instructions():
        if word == "COPY":
            *sources, target = rest.split()
            for source in map(Path, sources):
                place = tmp_path / "src" / (source.name if target == "./" else target)
                if (ROOT / source).is_dir():
                    skip = shutil.ignore_patterns("__pycache__", "_native")
                    shutil.copytree(ROOT / source, place, ignore=skip)
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, place)
    (install,) = (rest for word, rest in instructions() if word == "RUN" and "pip install" in rest)
    assert install.startswith("MOBILEPRUNE_NATIVE=off ")
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", tmp_path, "."]
    env = os.environ | {"MOBILEPRUNE_NATIVE": "off", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(argv, cwd=tmp_path / "src", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.whl")]


def test_the_image_runs_what_there_is() -> None:
    said = dict(instructions())
    (entry,) = json.loads(said["ENTRYPOINT"])
    assert entry in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    with pytest.raises(SystemExit):
        parser().parse_args(json.loads(said["CMD"]))
    python = re.fullmatch(r"python:(\d+\.\d+)-slim", said["FROM"])
    assert python is not None
    assert python[1] == "3.11"
    assert said["USER"] in next(rest for word, rest in instructions() if "useradd" in rest)
