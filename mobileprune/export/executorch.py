"""ExecuTorch, the successor of TorchScript-lite, with all it can in the XNNPACK backend.

int8 is PT2E with XNNPACK's quantiser: weights symmetric per output channel, q = round(w / s) with s = max|w| / 127, so
zeros stay zeros; activations with a zero point. A hardened output's last layer stays in float32: it decides on steps.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from mobileprune.convert import harden
from mobileprune.errors import MobilepruneError, one_line
from mobileprune.export.converter import require
from mobileprune.export.target import ExportOptions, Storage, only_dense
from mobileprune.silence import silenced

MAX_BATCH = 256
"""Memory for what lies between XNNPACK's parts is planned for it, when the file is written."""
CALIBRATION_BATCH = 32
SMALLEST_SCALE = 2**-16
"""Of weights. 2^-12, the default, rounds off channels that folding made small; XNNPACK refuses products below 2^-32."""
PRECISIONS = ("fp32", "int8")
NEEDS = ("executorch", "torchao")


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> Storage:
    """Takes batches of 1 to ``MAX_BATCH``. TargetUnavailableError without the package, UsageError without images."""
    images = options.images() if options.precision == "int8" else None
    require("executorch", *NEEDS)
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass

        try:
            program = _exported(model, input_shape)
            if images is not None:
                program = _exported(_quantised(program.module(), images), input_shape)
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            # The caller's images are read where they are: none of their size is set aside.
            planning = MemoryPlanningPass(alloc_graph_input=False)
            content = lowered.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning)).buffer
        except Exception as error:  # any code of the user's
            text = one_line(error)
            raise MobilepruneError(f"ExecuTorch cannot export this model: {text}; try --target onnx") from error
    path.write_bytes(content)
    return only_dense(path)


def _exported(model: nn.Module, input_shape: tuple[int, int, int]) -> ExportedProgram:
    """Traced at the largest batch: what torch's heuristics conclude from a small one would become an upper bound."""
    example = torch.zeros(MAX_BATCH, *input_shape)
    return torch.export.export(model, (example,), dynamic_shapes=({0: Dim("N", min=1, max=MAX_BATCH)},))


def _quantised(model: fx.GraphModule, calibration: Tensor) -> nn.Module:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True)
    fine = PerChannelMinMaxObserver.with_args(eps=SMALLEST_SCALE)
    quantizer = XNNPACKQuantizer().set_global(
        replace(config, weight=replace(config.weight, observer_or_fake_quant_ctr=fine))
    )
    prepared = prepare_pt2e(model, quantizer.set_filter_function(_before_the_head))
    with torch.no_grad():
        for batch in calibration.split(CALIBRATION_BATCH):
            prepared(batch)
    made: nn.Module = convert_pt2e(prepared)
    return made


def _before_the_head(node: fx.Node) -> bool:
    stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack", {})
    return not any(str(kind).startswith(f"{harden.__name__}.") for _, kind in stack.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without deprecations, and the libraries for GPUs that torchao fails to load."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), silenced():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
