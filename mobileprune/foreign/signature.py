"""What a foreign model file takes: asked in a child process, because nothing has checked the file yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileprune.errors import ArtifactError
from mobileprune.onnx_runtime import session, settings
from mobileprune.runtimes.trial import told

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Signature:
    """One float32 input: its name and the shape of a batch, where None is any size (and () that it does not tell)."""

    name: str = "input"
    shape: tuple[int | None, ...] = ()

    def layout(self, path: Path, image: Shape) -> tuple[Shape, bool, bool]:
        """Shape of one input, whether channels come last, whether it takes one image at a time; ArtifactError if it
        takes no images of shape ``image`` (C, H, W)."""
        if not self.shape:
            return image, False, False
        last = (*image[1:], image[0])
        for shape in (image, last):
            fits = len(self.shape) == 4 and all(a in (None, b) for a, b in zip(self.shape[1:], shape, strict=True))
            if fits and self.shape[0] in (None, 1):
                return shape, shape is last, self.shape[0] == 1
        said = ", ".join("any" if size is None else str(size) for size in self.shape)
        raise ArtifactError(
            f"{path}: takes a batch of shape ({said}), the images are (C, H, W) = {image}: resize them, or export the "
            "model for a batch of any size; or wrap it in a function of yours (--predict)"
        )


def signature(path: Path) -> Signature:
    """ArtifactError when the file cannot be read, or takes anything but one float32 input."""
    reader = READERS.get(path.suffix)
    if reader is None:
        return Signature()
    inputs: list[dict[str, Any]] = told(lambda: reader(path), path)
    if [each["type"] for each in inputs] != ["float32"]:
        said = ", ".join(f"{each['name'][:80]!r} {each['type']}" for each in inputs[:8])
        raise ArtifactError(
            f"{path}: takes {said or 'nothing'}, must be one input of float32; wrap it in a function (--predict)"
        )
    return Signature(inputs[0]["name"], tuple(inputs[0]["shape"]))


def _input(name: str, shape: list[int | None], kind: str) -> dict[str, Any]:
    return {"name": name, "shape": shape, "type": kind}


def _onnx(path: Path) -> list[dict[str, Any]]:
    from onnx import helper

    from mobileprune.runtimes.onnx_checks import read

    graph = read(path.read_bytes(), path).graph
    stored = {tensor.name for tensor in graph.initializer}
    found = []
    for value in graph.input:
        if value.name not in stored:
            kind = value.type.tensor_type
            dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else "no tensor"
            found.append(_input(value.name, [d.dim_value or None for d in kind.shape.dim], dtype))
    return found


def _ort(path: Path) -> list[dict[str, Any]]:
    opened = session(path.read_bytes(), settings(model_format="ORT"))
    kinds = {"tensor(float)": "float32"}
    return [
        _input(i.name, [s if isinstance(s, int) and s > 0 else None for s in i.shape], kinds.get(i.type, i.type))
        for i in opened.get_inputs()
    ]


def _tflite(path: Path) -> list[dict[str, Any]]:
    """The batch counts as free: the runtime resizes it, or asks image by image."""
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_content=path.read_bytes(), num_threads=1).get_input_details()
    return [_input(i["name"], [None, *map(int, i["shape"][1:])], i["dtype"].__name__) for i in found]


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {".onnx": _onnx, ".ort": _ort, ".tflite": _tflite}
"""The other formats do not tell, or their runtimes need no name: ExecuTorch and the lite interpreter. MNN does, and
must find an input called ``input``."""
