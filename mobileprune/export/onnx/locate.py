"""Where an ONNX file starts to compute something else than its model: every value on the way, side by side.

torch's exporter gives values of the ONNX graph the names that they have in the exported program, so the program, run
node by node in PyTorch, says what each has to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from mobileprune.export.onnx import program
from mobileprune.export.target import ExportOptions
from mobileprune.onnx_runtime import session

TOLERANCE = 1e-4
"""Of the largest number of a value, in fp32."""


class _Recorder(torch.fx.Interpreter):
    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        found = super().run_node(n)
        if isinstance(found, Tensor):
            self.values[n.name] = found.detach()
        return found


def locate(model: nn.Module, path: Path, x: Tensor, options: ExportOptions) -> str:
    """For an error message: the first value of the file that differs for inputs ``x`` (N, C, H, W), "" if none does.

    Below fp32 every value differs a little: then it is the one that differs most, as a share of its largest number.
    """
    exported = program(model, (int(x.shape[1]), int(x.shape[2]), int(x.shape[3])), options.opset).exported_program
    assert exported is not None
    graph = exported.module()
    assert isinstance(graph, torch.fx.GraphModule)
    recorder = _Recorder(graph)
    with torch.no_grad():
        recorder.run(x)
    file = onnx.load(path)
    last = next(iter(graph.graph.output_node().all_input_nodes)).name  # outputs have names of their own
    recorder.values[file.graph.output[0].name] = recorder.values[last]
    makers = {name: node.op_type for node in file.graph.node for name in node.output}
    wanted = {name: value.numpy() for name, value in recorder.values.items() if name in makers}
    errors: dict[str, float] = {}
    for name, actual in _values(file, list(wanted), x).items():
        actual, expected = (np.asarray(value, np.float64) for value in (actual, wanted[name]))  # masks and places too
        same = actual.shape == expected.shape
        errors[name] = float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)) if same else np.inf
    exact = options.precision == "fp32"
    wrong = {name: error for name, error in errors.items() if not exact or not error <= TOLERANCE}
    if not wrong:
        return ""
    name = next(iter(wrong)) if exact else max(wrong, key=lambda name: wrong[name])
    which = "first value that differs" if exact else "value that differs most"
    return f"; the {which} is {name!r}, made by {makers[name]} ({wrong[name]:.2g} of its largest number)"


def _values(file: onnx.ModelProto, names: list[str], x: Tensor) -> dict[str, Any]:
    """Of the graph, in its order."""
    ordered = [name for node in file.graph.node for name in node.output if name in names]
    shown = {value.name for value in file.graph.output}
    file.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in ordered if name not in shown)
    found = session(file.SerializeToString()).run(ordered, {file.graph.input[0].name: x.numpy()})
    return dict(zip(ordered, found, strict=True))
