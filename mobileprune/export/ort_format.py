"""ONNX Runtime's own format, for builds of the runtime that hold only the operators of a model and no ONNX parser.

Made from the ONNX file. Fusions that every processor has are baked in ("extended"); the layouts of x86 are not, because
they would neither run nor be fast elsewhere. Sparse initializers stay sparse, with places in as few bytes as they need.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from mobileprune.errors import MobilepruneError
from mobileprune.export import onnx as onnx_target
from mobileprune.export.onnx.forms import FORMS as ONNX_FORMS
from mobileprune.export.ort_order import in_order
from mobileprune.export.target import AUTO, DENSE, ExportOptions, Storage

FORMS = (DENSE, "coo")
TRIAL_BATCH = 4
PROVIDERS = ["CPUExecutionProvider"]


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> Storage:
    """Every form asked for that answers noise as the dense one does, bit for bit; with "auto" the smallest."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx_target.write(model, input_shape, source, replace(options, sparse_format=DENSE))
        proto = onnx.load(source)
        names = FORMS if options.sparse_format == AUTO else dict.fromkeys((DENSE, options.sparse_format))
        # A folded Cast would widen float16 weights in the file.
        disabled = ["ConstantFolding"] if options.precision == "fp16" else []
        contents = {name: convert(ONNX_FORMS[name](proto)[0], Path(folder) / f"{name}.ort", disabled) for name in names}
    noise = np.random.default_rng(0).standard_normal((TRIAL_BATCH, *input_shape)).astype(np.float32)
    answers = {name: _answer(content, noise) for name, content in contents.items()}
    same = [name for name in names if answers[name] == answers[DENSE]]
    chosen = min(same, key=lambda name: len(contents[name])) if options.sparse_format == AUTO else options.sparse_format
    if chosen not in same:
        raise MobilepruneError(f"--sparse-format {chosen} changes what the file computes; use auto and report this")
    path.write_bytes(contents[chosen])
    why = (
        f"the smallest of {', '.join(same)} with bit-identical answers"
        if options.sparse_format == AUTO
        else "asked for"
    )
    return Storage(chosen, why, {name: len(content) for name, content in contents.items()})


def convert(proto: onnx.ModelProto, path: Path, disabled_optimizers: list[str]) -> bytes:
    """What ONNX Runtime saves of ``proto`` at ``path``, in an order that does not change from run to run."""
    settings, ort = _settings()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(path)
    settings.add_session_config_entry("session.save_model_format", "ORT")
    content = proto.SerializeToString()
    ort.InferenceSession(content, settings, providers=PROVIDERS, disabled_optimizers=disabled_optimizers)
    return in_order(path.read_bytes())


def _answer(content: bytes, noise: NDArray[np.float32]) -> bytes:
    settings, ort = _settings()
    session = ort.InferenceSession(content, settings, providers=PROVIDERS)
    return bytes(session.run(None, {session.get_inputs()[0].name: noise})[0].tobytes())


def _settings() -> tuple[Any, Any]:
    """Options of a session that says and uses little, and the library."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    return settings, onnxruntime
