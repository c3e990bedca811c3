"""Sessions of ONNX Runtime, dense and with the native library, and whether they say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from mobileprune.errors import TargetUnavailableError
from mobileprune.export.onnx.native import NATIVE, choose, is_worth_it
from mobileprune.export.onnx.native.layers import Graph
from mobileprune.export.onnx.native.rewrite import fuse, rewrite
from mobileprune.native import library, reason
from mobileprune.onnx_runtime import session, settings

LIMIT = 1e-5
"""Of the error that float32 may have."""


def options(threads: int, ops: Path | None = None, profile: Path | None = None) -> Any:
    """Threads wait for work within a run only: between runs they would take the other side's core."""
    made = settings(num_threads=threads)
    made.add_session_config_entry("session.force_spinning_stop", "1")
    if ops:
        made.register_custom_ops_library(str(ops))
    if profile:
        made.enable_profiling, made.profile_file_prefix = True, str(profile)
    return made


def native_library() -> Path:
    found = library()
    if found is None:
        raise TargetUnavailableError(f"this benchmark needs the native operators: {reason()}")
    return found


class Running:
    """A session that answers one image (1, C, H, W)."""

    def __init__(self, proto: onnx.ModelProto, image: NDArray[np.float32], made: Any) -> None:
        self.session, self._feed = session(proto.SerializeToString(), made), {proto.graph.input[0].name: image}

    def __call__(self) -> NDArray[np.float32]:
        return np.asarray(self.session.run(None, self._feed)[0])


def rewritten(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """``proto`` for the native library, by the rule of export, and how many layers that computes."""
    made, kernels = choose(proto, "native")
    return made, sum(layer.kernel == NATIVE for layer in kernels.layers)


def single_layers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` with the layers of the rule rewritten one by one: no blocks, so that each can be looked at."""
    graph = Graph(proto)
    chosen = [each for each in graph.layers() if is_worth_it(each)]
    return rewrite(proto, graph, fuse(graph, chosen))


def error(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference over the largest value of the reference."""
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def verified(reference: NDArray[np.float32], found: NDArray[np.float32], who: str, limit: float = LIMIT) -> float:
    """The error; RuntimeError where it is above ``limit``, or not a number: what is wrong needs no timing."""
    wrong = error(reference, found)
    if not wrong <= limit:
        raise RuntimeError(f"{who}: differs from dense ONNX Runtime by {wrong:.1e} of its largest value > {limit:g}")
    return wrong


def weights(proto: onnx.ModelProto) -> dict[str, int]:
    """Numbers in weights of two axes and more, and how many of them are not zero."""
    arrays = [numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if len(tensor.dims) > 1]
    return {"weights": sum(a.size for a in arrays), "nonzeros": sum(int(np.count_nonzero(a)) for a in arrays)}
