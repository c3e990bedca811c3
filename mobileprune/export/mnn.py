"""MNN: the ONNX file that :mod:`mobileprune.export.onnx` writes, converted with MNN's sparse kernels switched on.

A layer with enough zeros is stored by its nonzeros and computed from them: latency falls with unstructured zeros.
int8 stores weights in 8 bits, symmetric for each output channel, w = s q with q in -127..127: zeros stay zeros.

The converter's Python front end, ``MNN.tools``, runs pip and reports to its maker when it is imported (3.6). It is
never imported here: the native module behind it does neither.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from torch import nn

from mobileprune.errors import MobilepruneError
from mobileprune.export import onnx
from mobileprune.export.converter import last_words, require, run
from mobileprune.export.target import AUTO, DENSE, ExportOptions, Storage

EXTRA, SPARSE = "mnn", "sparse"
FORMS, PRECISIONS = (DENSE, SPARSE), ("fp32", "int8")
NEEDS = ("MNN", "_tools")
_CONVERT = """
import sys
sys.modules["MNN.tools"] = None
import _tools
_tools.mnnconvert(["mnnconvert", *sys.argv[1:]])
"""
_ARGUMENTS = {DENSE: (), SPARSE: ("--detectSparseSpeedUp",)}
# MNN 3.6 has its own default the wrong way round: the flag makes quantisation symmetric.
_PRECISION_ARGUMENTS = {"fp32": (), "int8": ("--weightQuantBits", "8", "--weightQuantAsymmetric")}
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> Storage:
    require(EXTRA, *NEEDS)
    forms = FORMS if options.sparse_format == AUTO else (options.sparse_format,)
    contents = dict[str, bytes]()
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
        onnx.write(model, input_shape, source, replace(options, precision="fp32", sparse_format=DENSE))
        for form in forms:
            contents[form] = _converted(source, made, *_ARGUMENTS[form], *_PRECISION_ARGUMENTS[options.precision])
    sizes = {form: len(content) for form, content in contents.items()}
    chosen = min(sizes, key=lambda form: sizes[form])
    path.write_bytes(contents[chosen])
    return Storage(chosen, _why(chosen, options.sparse_format), sizes)


def _converted(source: Path, made: Path, *arguments: str) -> bytes:
    made.unlink(missing_ok=True)
    files = ("-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(made), "--bizCode", "mobileprune")
    said = run("MNN", _CONVERT, *files, *arguments)
    if "Converted Success" not in said or not made.is_file():  # it exits with 0 all the same
        raise MobilepruneError(f"MNN cannot convert this model: {last_words(said)}")
    return _with_own_uuid(made.read_bytes())


def _with_own_uuid(content: bytes) -> bytes:
    """The converter draws the file's UUID by chance: here it follows from the rest of the content."""
    found = list(_UUID.finditer(content))
    if len(found) != 1:
        raise MobilepruneError("MNN wrote a file without the UUID it should have; report this with MNN's version")
    start, end = found[0].span()
    digest = hashlib.sha256(content[:start] + content[end:]).digest()
    return content[:start] + str(uuid.UUID(bytes=digest[:16])).encode() + content[end:]


def _why(chosen: str, wanted: str) -> str:
    if wanted != AUTO:
        return "asked for"
    return f"the smallest of {', '.join(FORMS)}" + (", and computed by sparse kernels" if chosen == SPARSE else "")
