"""Reading a model file that anybody may have made: ``READERS`` by suffix, each in a child process of its own."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mobileprune.flatbuffer import MalformedError, root
from mobileprune.inspection import onnx_graph
from mobileprune.inspection.contents import Contents
from mobileprune.runtimes.base import checked_size
from mobileprune.runtimes.trial import told

Shape = tuple[int, int, int]


def contents_of(path: Path, input_shape: Shape | None = None) -> Contents:
    """What the file tells; nothing, with a note, for a kind that has no reader. ArtifactError for one that is corrupt.

    ``input_shape`` (C, H, W): of the images, where the file does not say.
    """
    reader = READERS.get(path.suffix)
    if reader is None:
        return Contents(notes=(f"files of type {path.suffix or path.name} are not read for layers and operators",))
    checked_size(path, "a model file")
    return Contents.from_dict(told(lambda: reader(path, input_shape).to_dict(), path))


def _lite(path: Path, input_shape: Shape | None) -> Contents:
    """The names that the lite interpreter looks up when it loads the file."""
    import torch
    from torch.jit.mobile import _get_model_ops_and_info

    torch.set_num_threads(1)  # the parent's other threads do not exist in a child
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Contents(operators=dict.fromkeys(sorted(_get_model_ops_and_info(str(path)))))


def _ort(path: Path, input_shape: Shape | None) -> Contents:
    from mobileprune.runtimes.ort_format import required_operators

    lines = (line.split(";") for line in required_operators(path).splitlines())
    found = {
        name if domain == "ai.onnx" else f"{domain}.{name}" for domain, _, names in lines for name in names.split(",")
    }
    return Contents(operators=dict.fromkeys(sorted(found)))


def _tflite(path: Path, input_shape: Shape | None) -> Contents:
    """Field numbers are those of TensorFlow Lite's schema."""
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise MalformedError(f"bytes 4 to 8 are {content[4:8]!r}, must be b'TFL3'")
    model, names = root(content), _tflite_names()
    codes = [max(code.integer(0, "b"), code.integer(3)) for code in model.tables(1)]
    found = Counter(codes[operator.integer(0, "I")] for graph in model.tables(2) for operator in graph.tables(3))
    return Contents(operators={names.get(code, f"operator {code}"): count for code, count in sorted(found.items())})


def _tflite_names() -> dict[int, str]:
    """Empty where LiteRT is not installed."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        return {}
    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


READERS: dict[str, Callable[[Path, Shape | None], Contents]] = {
    ".onnx": onnx_graph.contents,
    ".ort": _ort,
    ".ptl": _lite,
    ".tflite": _tflite,
}
"""Each runs in :func:`mobileprune.runtimes.trial.told`."""
