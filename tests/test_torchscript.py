"""A torch that has lost TorchScript, which a module that cannot be imported stands for: all else still works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = """
import sys
sys.modules["torch.jit.mobile"] = None  # importing it raises ImportError
import torch
from pathlib import Path
from torch import nn
from mobileprune.errors import TargetUnavailableError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

model, folder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)).eval(), Path(sys.argv[1])
options = RuntimeOptions(1, "input", (1, 8, 8))
for name in ("onnx", "ort", "torchscript-lite"):
    target, path = TARGETS[name], folder / TARGETS[name].file
    writes, opens = lambda: target.write(model, (1, 8, 8), path, ExportOptions()), lambda: RUNTIMES[name](path, options)
    for action in (writes, opens):
        try:
            print(name, type(action()).__name__)
        except TargetUnavailableError as error:
            print(name, "unavailable:", error)
"""


def test_other_targets_work_and_the_lite_one_says_why_it_cannot(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    onnx, onnx_runs, ort, ort_runs, written, opened = done.stdout.splitlines()
    assert (onnx, ort) == ("onnx Storage", "ort Storage")
    assert (onnx_runs, ort_runs) == ("onnx function", "ort function")
    for line in (written, opened):
        assert line.startswith("torchscript-lite unavailable: torch ")
        assert "--target executorch" in line
