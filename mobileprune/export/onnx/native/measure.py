"""How much faster the native library computes a model, or one layer of it: alternating blocks in this process.

One image, one thread. Of neighbouring blocks the ratio of medians is taken, and of those the median, so that a load
that comes and goes meets both sides.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from mobileprune.export.onnx.native.layers import Graph, Layer
from mobileprune.export.onnx.native.rewrite import fuse, rewrite
from mobileprune.onnx_runtime import session, settings

PAIRS, BLOCK_SECS, MIN_RUNS = 7, 0.02, 3


@dataclass(frozen=True)
class Measure:
    library: Path

    def ratio(self, stock: onnx.ModelProto, native: onnx.ModelProto) -> float:
        """Time of ``stock`` over that of ``native``, which is the same model; rounded to thousandths."""
        options = settings()
        options.register_custom_ops_library(str(self.library))
        sessions = session(stock.SerializeToString()), session(native.SerializeToString(), options)
        shape = [d.dim_value or 1 for d in stock.graph.input[0].type.tensor_type.shape.dim]
        feed = {stock.graph.input[0].name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        for each in sessions:
            _block(each, feed)
        pairs = ([_block(each, feed) for each in sessions] for _ in range(PAIRS))
        return round(statistics.median(before / after for before, after in pairs), 3)


def _block(session: Any, feed: dict[str, Any]) -> float:
    """Median time of a run."""
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < BLOCK_SECS:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def alone(proto: onnx.ModelProto, graph: Graph, layer: Layer) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A model of this layer only, without what follows it, for one image: as it is, and rewritten."""
    width = [layer.weights.shape[1] * layer.attributes.get("group", 1)]
    shape = [1, *width, *layer.attributes.get("input_size", ())]
    value = helper.make_tensor_value_info(layer.node.input[0], onnx.TensorProto.FLOAT, shape)
    made = helper.make_empty_tensor_value_info(layer.node.output[0])
    constants = [graph.constants[name] for name in layer.node.input[1:] if name]
    stock = helper.make_model(
        helper.make_graph([layer.node], "layer", [value], [made], constants),
        opset_imports=proto.opset_import,
        ir_version=proto.ir_version,
    )
    own = Graph(stock)
    return stock, rewrite(stock, own, fuse(own, own.layers()))
