"""What a verb need not wait for: modules, not seconds, so that a busy machine changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

WITHOUT = """
import sys
absent = sys.argv[1].split(",")
sys.modules.update(dict.fromkeys(absent))  # importing one of them raises ImportError
from mobileprune.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    weight = numpy_helper.from_array(np.eye(3, 4, dtype=np.float32)[:, :, None, None], "weight")
    node = helper.make_node("Conv", ["x", "weight"], ["y"])
    shapes = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", c, 2, 2]) for name, c in (("x", 4), ("y", 3))
    ]
    graph = helper.make_graph([node], "graph", shapes[:1], shapes[1:], [weight])
    path = tmp_path_factory.mktemp("start") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def without(absent: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT, absent, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("flags", [["--help"], ["--version"], ["export", "--help"]])
def test_help_takes_no_numbers(flags) -> None:
    done = without("numpy,onnx,torch,scipy,sklearn", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_looking_at_files_takes_no_torch(model) -> None:
    seen = without("torch,scipy,sklearn", "inspect", model)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "75.00%" in seen.stdout  # 9 of 12 weights
    same = without("torch,scipy,sklearn", "compare", model, model)
    assert (same.returncode, same.stderr) == (0, "")
    assert "the same, byte for byte" in same.stdout


def test_the_check_finds_what_takes_torch(model) -> None:
    done = without("torch", "explain", model)
    assert done.returncode == 1
    assert "torch" in done.stderr


@pytest.mark.parametrize("more", [[], ["-P"]], ids=str)
def test_a_folder_called_like_a_package_is_not_taken_for_it(model, tmp_path, more) -> None:
    """`python -m` puts the current folder first on the path."""
    for name in ("onnx", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not the package')\n")
    line = [sys.executable, *more, "-m", "mobileprune", "inspect", str(model)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
