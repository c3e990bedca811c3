"""LiteRT (TensorFlow Lite): torch.export, litert-torch in a process of its own, and a cleaned flatbuffer.

litert-torch converts for a fixed batch (its dynamic shapes fail at ``flatten``), so the model is converted for one
image and the batch is freed afterwards (:func:`mobileprune.export.litert.flatbuffer.free_batch`).
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from mobileprune.errors import MobilepruneError, one_line
from mobileprune.export.choice import choose, noise
from mobileprune.export.converter import require, run
from mobileprune.export.litert import flatbuffer as tflite
from mobileprune.export.litert.sparse import sparsify
from mobileprune.export.target import DENSE, ExportOptions, Storage
from mobileprune.silence import silenced

EXTRA, SPARSE = "litert", "sparse"
FORMS = (DENSE, SPARSE)
NEEDS = ("litert_torch", "ai_edge_litert")
_CONVERT = """
import sys
import torch
import litert_torch
program = torch.export.load(sys.argv[1])
litert_torch.convert(program.module(), program.example_inputs[0]).export(sys.argv[2])
"""


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> Storage:
    require(EXTRA, *NEEDS)
    dense = tflite.read(_converted(model, input_shape))
    tflite.clean(dense)
    tflite.free_batch(dense)
    contents = {DENSE: tflite.pack(dense)}
    if options.sparse_format != DENSE:
        sparse = tflite.read(contents[DENSE])
        sparsify(sparse)
        contents[SPARSE] = tflite.pack(sparse)
    try:
        chosen, why = choose(contents, options.sparse_format, lambda content: _answers(content, input_shape))
    except (RuntimeError, ValueError) as error:  # litert-torch writes operators that LiteRT does not have
        raise MobilepruneError(f"LiteRT cannot run this model: {one_line(error)}") from error
    path.write_bytes(contents[chosen])
    return Storage(chosen, why, {form: len(content) for form, content in contents.items()})


def _converted(model: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations of its own internals
        program, file = Path(folder) / "program.pt2", Path(folder) / "model.tflite"
        try:
            torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, *input_shape),)), program)
        except Exception as error:  # any code of the user's
            raise MobilepruneError(f"torch cannot export this model: {one_line(error)}") from error
        run("litert-torch", _CONVERT, str(program), str(file))
        return file.read_bytes()


def _answers(content: bytes, input_shape: tuple[int, int, int]) -> bytes:
    """To noise of several sizes, an image at a time, through LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    answers = []
    with silenced():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        given, taken = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        for image in noise(input_shape):
            interpreter.set_tensor(given, image[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(taken).tobytes())
    return b"".join(answers)
