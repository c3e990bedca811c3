"""ONNX Runtime without its telemetry, and what all sessions that mobileprune opens have in common.

No other module imports the library: the variable that switches its telemetry off is read when it is loaded.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, Literal

TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""Telemetry is on by default in 1.32."""
Level = Literal["DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL"]
"""Of optimisation, as the library calls them."""


def library(submodule: str = "") -> Any:
    """``onnxruntime``, or ``onnxruntime.<submodule>``: ``library("quantization")``."""
    os.environ.setdefault(TELEMETRY, "1")
    return importlib.import_module(f"onnxruntime.{submodule}" if submodule else "onnxruntime")


def settings(
    *, num_threads: int = 1, level: Level = "ENABLE_ALL", model_format: str | None = None, bounded: bool = False
) -> Any:
    """Of a silent session. ``model_format`` (ONNX, ORT): what the content is read as, None for what it looks like.

    ``bounded``: its memory is that of all bounded sessions of this process, see
    :func:`mobileprune.runtimes.onnxruntime.bound_memory`.
    """
    ort = library()
    made = ort.SessionOptions()
    made.intra_op_num_threads, made.inter_op_num_threads = num_threads, 1
    made.log_severity_level = 4
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    if model_format is not None:
        made.add_session_config_entry("session.load_model_format", model_format)
    if bounded:
        made.add_session_config_entry("session.use_env_allocators", "1")
    return made


def session(content: bytes, options: Any = None, disabled_optimizers: Sequence[str] = ()) -> Any:
    """On the CPU; ``options`` as :func:`settings` makes them. Raises what the runtime does, which has no common base.

    There is no falling back to other providers, of which the library would tell on stdout.
    """
    return library().InferenceSession(
        content,
        options or settings(),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled_optimizers),
        enable_fallback=0,
    )
