"""ONNX Runtime's own format, for builds of the runtime that hold only the operators of a model and no ONNX parser.

Made from the ONNX file. Fusions that every processor has are baked in ("extended"); the layouts of x86 are not, because
they would neither run nor be fast elsewhere. Sparse initializers stay sparse, with places in as few bytes as they need.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx
from torch import nn

from mobileprune.export import onnx as onnx_target
from mobileprune.export.choice import choose, noise
from mobileprune.export.onnx.forms import FORMS as ONNX_FORMS
from mobileprune.export.ort_order import in_order
from mobileprune.export.target import AUTO, DENSE, ExportOptions, Storage
from mobileprune.onnx_runtime import session, settings
from mobileprune.sparse_operators import DOMAIN

FORMS = (DENSE, "coo")


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
    inputs = noise(input_shape)

    def answers(content: bytes) -> bytes:
        opened = session(content)
        return bytes(opened.run(None, {opened.get_inputs()[0].name: inputs})[0].tobytes())

    chosen, why = choose(contents, options.sparse_format, answers)
    path.write_bytes(contents[chosen])
    return Storage(chosen, why, {name: len(content) for name, content in contents.items()})


def convert(proto: onnx.ModelProto, path: Path, disabled_optimizers: list[str]) -> bytes:
    """What ONNX Runtime saves of ``proto`` at ``path``, in an order that does not change from run to run."""
    if DOMAIN not in {opset.domain for opset in proto.opset_import}:
        # A process that has had native operators lists their domain in every file that it saves; so must all.
        proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    options = settings(level="ENABLE_EXTENDED")
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    session(proto.SerializeToString(), options, disabled_optimizers)
    return in_order(path.read_bytes())
