"""ONNX Runtime is loaded without its telemetry, and its sessions keep silent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from onnx import parser

from mobileprune.onnx_runtime import TELEMETRY, library, session, settings

# Quantising is what loads the library first when an export is asked for --precision int8.
QUANTISE = f"""
import os, sys
import torch
from onnx import parser
from mobileprune.export.onnx import int8

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get({TELEMETRY!r}))

model = parser.parse_model(sys.argv[1])
assert "onnxruntime" not in sys.modules
sys.meta_path.insert(0, Watch())
int8.quantise(model, torch.rand(8, 4))
assert "onnxruntime" in sys.modules
"""
MODEL = '<ir_version: 10, opset_import: ["": 18]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }'


@pytest.mark.parametrize(("given", "seen"), [({}, "1"), ({TELEMETRY: "0"}, "0")], ids=["unset", "of the user"])
def test_quantising_switches_telemetry_off_before_the_library_is_loaded(given, seen) -> None:
    kept = {name: value for name, value in os.environ.items() if name != TELEMETRY}
    command = [sys.executable, "-W", "ignore", "-c", QUANTISE, MODEL]
    done = subprocess.run(command, env=kept | given, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{seen}\n"), done.stderr


def test_there_is_no_falling_back_which_would_print(monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("provider")

    monkeypatch.setattr(library().InferenceSession, "_create_inference_session", fail)
    with pytest.raises(RuntimeError, match="provider"):
        session(b"")
    assert capsys.readouterr().out == ""


def test_settings_are_those_asked_for() -> None:
    levels = library().GraphOptimizationLevel
    made = settings()
    assert made.graph_optimization_level == library().SessionOptions().graph_optimization_level == levels.ORT_ENABLE_ALL
    assert (made.intra_op_num_threads, made.log_severity_level) == (1, 4)
    made = settings(num_threads=3, level="DISABLE_ALL", model_format="ORT", bounded=True)
    assert (made.intra_op_num_threads, made.graph_optimization_level) == (3, levels.ORT_DISABLE_ALL)
    assert made.get_session_config_entry("session.use_env_allocators") == "1"
    with pytest.raises(Exception, match="ORT"):
        session(parser.parse_model(MODEL).SerializeToString(), made)
