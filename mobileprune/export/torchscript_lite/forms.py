"""How a TorchScript-lite file keeps its weights (``FORMS``), and the smallest that gives the same answers, bit for bit.

    dense    every number, zeros included; float16 ones are widened in the first call
    packed   values and Rice-coded gaps, and int8 values in Rice codes, expanded in the first call

Both run in the stock lite interpreter, which from the second call on computes with dense weights at the same speed.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from mobileprune.convert.entropy import bound_bits
from mobileprune.convert.half import halved
from mobileprune.errors import MobilepruneError
from mobileprune.export.choice import choose, noise
from mobileprune.export.target import AUTO, DENSE, Storage
from mobileprune.export.torchscript_lite import graph as lite
from mobileprune.export.torchscript_lite.packed import Array

if TYPE_CHECKING:  # a torch without TorchScript can import this
    Module = torch.jit.ScriptModule


def dense(frozen: Module, precision: str) -> tuple[Module, int]:
    if precision == "fp16" and lite.weights(frozen.graph):
        module, made = lite.expanding(frozen, half=True, sparse=False)
        return module, made.num_bytes
    return frozen, sum(array.nbytes for array in _weights(frozen, precision))


def packed(frozen: Module, precision: str) -> tuple[Module, int]:
    if not _weights(frozen, precision):
        return frozen, 0
    if precision == "int8":
        module, made = lite.prepacking(frozen)
    else:
        module, made = lite.expanding(frozen, half=precision == "fp16", sparse=True)
    return module, made.num_bytes


FORMS: dict[str, Callable[[Module, str], tuple[Module, int]]] = {DENSE: dense, "packed": packed}
"""Name -> module, bytes of its weights."""


def store(
    frozen: Module, input_shape: tuple[int, int, int], precision: str, form: str, save: Callable[[Module], bytes]
) -> tuple[bytes, Storage]:
    """The file's content in ``form``, or with "auto" in the smallest that answers as the dense one does."""
    contents, weight_bytes, refused = dict[str, bytes](), dict[str, int](), list[str]()
    for name in FORMS if form == AUTO else dict.fromkeys((DENSE, form)):
        try:
            module, weight_bytes[name] = FORMS[name](frozen, precision)
        except MobilepruneError as error:
            if name == DENSE or form != AUTO:
                raise
            refused.append(f"not {name}: {error}")
            continue
        contents[name] = save(module)
    sizes = {name: len(content) for name, content in contents.items()}
    chosen, why = choose(contents, form, lambda content: answers(content, input_shape), refused)
    bound = math.ceil(sum(map(bound_bits, _weights(frozen, precision))) / 8)
    return contents[chosen], Storage(chosen, why, sizes, bound, weight_bytes[chosen])


def answers(content: bytes, input_shape: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """To noise of several sizes through the lite interpreter, in the first call and in the second."""
    from torch.jit.mobile import _load_for_lite_interpreter

    inputs = torch.from_numpy(noise(input_shape))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = _load_for_lite_interpreter(io.BytesIO(content))
        try:
            first, second = (module(inputs).numpy().tobytes() for _ in range(2))
        except Exception as error:  # any code of the user's
            reason = " ".join(str(error).split())[-300:]
            raise MobilepruneError(
                f"the lite interpreter cannot run this model on {len(inputs)} inputs: {reason}"
            ) from error
    return first, second


def _weights(frozen: Module, precision: str) -> list[Array]:
    """What was learnt, in the types in which it is kept."""
    graph = frozen.graph
    arrays = [node.t("value").detach().numpy() for node in lite.weights(graph)]
    if precision == "fp16":
        return [halved(array) for array in arrays]
    for operators, unpack in ((lite.CONVS, "conv2d_unpack"), (lite.LINEARS, "linear_unpack")):
        for node in lite.layers(graph, operators):
            arrays += lite.layer_arrays(*getattr(torch.ops.quantized, unpack)(node.output().toIValue()))
    return arrays
