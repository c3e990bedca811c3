"""Every layer of a network: its time in ONNX Runtime dense and native, and the share of the machine's limit.

Times are ONNX Runtime's own profile of one thread, the fastest of the runs. The limit is the rate of the fastest
of many matrix products of ONNX Runtime in the same run: a stand-in for that of the FMA units, a bit below it.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from kernel_cases import Network
from kernel_library import work
from kernel_sessions import Running, native_library, options, rewritten, single_layers
from onnx import helper, numpy_helper, shape_inference

from mobileprune.sparse_operators import WEIGHT_INPUT, is_sparse, weight_inputs

RUNS, WARM_UP = 60, 5
MATRIX, PRODUCTS = 512, 400
LAYERS = ("Conv", "Gemm")
FOLLOWERS = ("Add", "Relu", "Clip", "HardSwish")
ENDING = "_kernel_time"


def limit_gmacs() -> float:
    """Multiply-adds per second, in 1e9, of a square matrix product in one thread."""
    shape = [MATRIX, MATRIX]
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    a, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "ay")
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    graph = helper.make_graph([node], "product", [a], [y], [numpy_helper.from_array(values, "b")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    run, times = Running(proto, values, options(1)), []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return MATRIX**3 / min(times) / 1e9


def labelled(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy whose layers have names, and layer of every name that an optimised graph may give to it.

    A layer is called as its weights are, a node of several layers as the first of them.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in made.graph.node:
        for value in node.input:
            users[value].append(node)
    names: dict[str, str] = {}
    for node in made.graph.node:
        if not weights_of(node):
            continue
        name = node.name = weights_of(node)[0]
        value = node.output[0]
        names |= {name: name, value: name}
        while len(users[value]) == 1 and users[value][0].op_type in FOLLOWERS:
            value = users[value][0].output[0]
            names.setdefault(value, name)
    return made, names | {f"{value}_nchwc": name for value, name in names.items()}


def weights_of(node: onnx.NodeProto) -> list[str]:
    """The names of a layer's weights, of all that a node of several layers computes."""
    if is_sparse(node):
        return [node.input[at] for at in weight_inputs(node.op_type)]
    return [node.input[WEIGHT_INPUT]] if node.op_type in LAYERS else []


def profile(proto: onnx.ModelProto, image: Any, ops: Path | None) -> dict[str, float]:
    """Microseconds of each layer by the name of its weights; "" for all the rest together."""
    made, names = labelled(proto)
    with tempfile.TemporaryDirectory() as folder:
        run = Running(made, image, options(1, ops, Path(folder) / "profile"))
        for _ in range(RUNS + WARM_UP):
            run()
        events = json.loads(Path(run.session.end_profiling()).read_text())
    taken: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(ENDING):
            taken[event["name"].removesuffix(ENDING)].append(event["dur"])
    found: dict[str, float] = defaultdict(float)
    for node, times in taken.items():
        found[names.get(node, "")] += min(times[WARM_UP:])
    return dict(found)


def layers(case: Network, limit: float) -> list[dict[str, Any]]:
    """Of every layer alone, of every block that one operator computes at once, and of all that the library leaves."""
    dense_us = profile(case.proto, case.image, None)
    singly = _rows(case, single_layers(case.proto), dense_us, limit)
    as_it_runs = _rows(case, rewritten(case.proto)[0], dense_us, limit)
    blocks = [row for row in as_it_runs if len(row["layers"]) > 1]
    return [*singly[:-1], *blocks, as_it_runs[-1]]


def _rows(case: Network, native: onnx.ModelProto, dense_us: dict[str, float], limit: float) -> list[dict[str, Any]]:
    """Of all nodes for the native library, and last one of no layers, which is the rest."""
    native_us, pixels = profile(native, case.image, native_library()), output_pixels(case.proto)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in case.proto.graph.initializer}
    found = []
    for node in filter(is_sparse, native.graph.node):
        names = weights_of(node)
        nonzeros = {name: int(np.count_nonzero(constants[name])) for name in names}
        kernel, multiply_adds = work(node, [constants[name] for name in names])
        gmacs = multiply_adds / native_us[names[0]] / 1e3
        found.append(
            {
                "layers": names,
                "shapes": [[*constants[name].shape] for name in names],
                "pixels": [pixels[name] for name in names],
                "kernel": kernel,
                "nonzeros": sum(nonzeros.values()),
                "multiply_adds": multiply_adds,
                "stored": multiply_adds / sum(count * pixels[name] for name, count in nonzeros.items()),
                "dense_us": sum(dense_us[name] for name in names),
                "native_us": native_us[names[0]],
                "gmacs": gmacs,
                "share_of_limit": gmacs / limit,
            }
        )
    every = {"dense_us": dense_us, "native_us": native_us}
    rest = {side: sum(us.values()) - sum(row[side] for row in found) for side, us in every.items()}
    return [*found, {"layers": [], **rest}]


def output_pixels(proto: onnx.ModelProto) -> dict[str, int]:
    """Of every layer, by the name of its weights."""
    inferred = shape_inference.infer_shapes(proto).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.output)}
    return {
        node.input[WEIGHT_INPUT]: math.prod(axis.dim_value for axis in shapes[node.output[0]][2:])
        for node in proto.graph.node
        if node.op_type in LAYERS
    }
