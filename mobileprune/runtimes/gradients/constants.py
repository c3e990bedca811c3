"""What no image changes, as ONNX Runtime computes it, and ONNX Runtime on a part of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from onnx.inliner import inline_local_functions
from torch import Tensor

from mobileprune import onnx_runtime
from mobileprune.errors import ArtifactError
from mobileprune.runtimes.base import Session, one_line


def constant_names(model: onnx.ModelProto, stored: set[str]) -> set[str]:
    """Names of all values that no image changes, and "", which stands for an input that is left out."""
    found = stored | {""}
    for node in model.graph.node:
        branches = any(a.HasField("g") or a.graphs for a in node.attribute)  # they may use any value around them
        if not branches and not node.op_type.startswith(("Random", "Bernoulli")) and found.issuperset(node.input):
            found.update(node.output)
    return found


def evaluated(model: onnx.ModelProto, constants: set[str], wanted: set[str]) -> dict[str, Tensor]:
    """The ``wanted`` constants as ONNX Runtime computes them: sparse, packed, halved and quantised ones unfolded."""
    if not wanted:
        return {}
    part, order = onnx.ModelProto(), sorted(wanted)
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.input[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.node.extend(node for node in model.graph.node if constants.issuperset(node.output))
    asked = [helper.make_node("Identity", [name], [f"mobileprune.seen.{i}"]) for i, name in enumerate(order)]
    part.graph.node.extend(asked)
    part.graph.output.extend(helper.make_empty_tensor_value_info(node.output[0]) for node in asked)
    session = plain_session(part.SerializeToString(), optimise=False)
    return {name: torch.tensor(value) for name, value in zip(order, session.run(None, {}), strict=True)}


def plain_session(content: bytes, *, optimise: bool) -> Any:
    """ONNX Runtime that computes what the file says, operator by operator; ``optimise`` for constants once and for all.

    Not fused: on x86 without VNNI its int8 kernels saturate, which phones' do not, and which has no gradient.
    """
    level: onnx_runtime.Level = "ENABLE_BASIC" if optimise else "DISABLE_ALL"
    return onnx_runtime.session(content, onnx_runtime.settings(level=level, model_format="ONNX", bounded=True))


def session_to(output: str, content: bytes, path: Path, input_name: str) -> Session:
    """The file's model, checked before, up to ``output``; ArtifactError where ONNX Runtime refuses it."""
    model = onnx.load_model_from_string(content)
    if [value.name for value in model.graph.output] != [output]:
        model = inline_local_functions(model)
        del model.graph.output[:]
        model.graph.output.append(helper.make_empty_tensor_value_info(output))
        content = model.SerializeToString()
    try:
        session = plain_session(content, optimise=True)
    except Exception as error:  # the runtime's exceptions have no common base
        raise ArtifactError(f"{path}: ONNX Runtime refuses this model ({one_line(error)})") from error

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, {input_name: x})[0], np.float32)
        except Exception as error:
            raise ArtifactError(f"{path}: inference failed ({one_line(error)})") from error

    return run
