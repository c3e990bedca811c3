"""From how many zeros on is a layer faster on the native operators? Single layers by their size.

    python benchmarks/kernel_rule.py

ONNX Runtime's time over that of the native library, one image, one thread, blocks of runs in turn: median [least, most]
of three. Writes results/kernel-rule.md beside the JSON.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from record import RESULTS, record

from mobileprune.bench.load import LoadWatch
from mobileprune.export.onnx.native import least_zeros
from mobileprune.export.onnx.native.layers import Graph
from mobileprune.export.onnx.native.measure import Measure, alone
from mobileprune.export.target import measuring_library

ZEROS = (0.65, 0.8, 0.9, 0.95)
SIDES = (1, 2, 3, 4, 7, 8)
CONVOLUTIONS = ((3, 64), (3, 256), (1, 96), (1, 576))
"""Kernel's side and channels, in as well as out."""
LINEAR = ((120, 400), (256, 256), (512, 512), (1024, 1024), (2048, 2048), (4096, 2048))
REPEATS = 3


def layer(node: onnx.NodeProto, shape: tuple[int, ...], image: list[int], zeros: float) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(shape).astype(np.float32)
    weights.reshape(-1)[rng.permutation(weights.size) < weights.size * zeros] = 0
    values = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, *image]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, shape[0], *image[1:]]),
    ]
    graph = helper.make_graph([node], "layer", values[:1], values[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def cases() -> dict[str, tuple[onnx.NodeProto, tuple[int, ...], list[int]]]:
    found = {}
    for k, channels in CONVOLUTIONS:
        for side in SIDES:
            node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[k // 2] * 4)
            name = f"{k}x{k}, {channels} channels, {side} x {side}"
            found[name] = (node, (channels, channels, k, k), [channels, side, side])
    for shape in LINEAR:
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
        found[f"linear, {shape[0]} x {shape[1]}"] = (node, shape, [shape[1]])
    return found


def measured() -> dict[str, Any]:
    measure, found = Measure(measuring_library()), {}
    for name, (node, shape, image) in cases().items():
        ratios = {}
        for zeros in ZEROS:
            proto = layer(node, shape, image, zeros)
            graph = Graph(proto)
            (only,) = graph.layers()
            pair = alone(proto, graph, only)
            ratios[f"{zeros:g}"] = [measure.ratio(*pair) for _ in range(REPEATS)]
        found[name] = {"ratios": ratios, "least_zeros": least_zeros(only.weights.size, only.pixels)}
        print(name, ratios, flush=True)
    return found


def page(value: dict[str, Any]) -> str:
    head = [
        "# Single layers on the native operators\n",
        "Time on ONNX Runtime's kernels over that on the native library's, by the share of zeros: one image, one",
        f"thread, median [least, most] of {REPEATS}. The rule of `--kernels native` takes a layer from the share in",
        "the last column on, of zeros and of what meets only padding. It is one rule for all processors: on this one",
        "it gives away something on maps of up to 4 x 4 and where channels are few, and [phones gain](devices.md)",
        "there.\n",
        f"| layer | {' | '.join(f'{zeros:.0%}' for zeros in ZEROS)} | rule |",
        "|---" * (len(ZEROS) + 2) + "|",
    ]
    rows = []
    for name, found in value["layers"].items():
        cells = [f"{median(r):.2f} [{min(r):.2f}, {max(r):.2f}]" for r in found["ratios"].values()]
        least = "never" if found["least_zeros"] == 1 else f"{found['least_zeros']:.1%}"
        rows.append(f"| {name} | {' | '.join(cells)} | {least} |")
    machine = ", ".join(f"{name} {text}" for name, text in value["machine"].items())
    note = f"; {value['note']}" if value["note"] else ""
    return "\n".join([*head, *rows, "", f"{value['date']}; {machine}{note}"]) + "\n"


def main() -> None:
    watch = LoadWatch()
    layers = measured()
    load, valid, note = watch.finish()
    path = record("kernel-rule", {"layers": layers, "other_load_cores": load, "valid": valid, "note": note})
    (RESULTS / "kernel-rule.md").write_text(page(json.loads(path.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
