"""The operators of the native library, and the functions of standard operators that say in the file what they compute.

    SparseConv [Add] [Relu | Relu6 | HardSwish] (X, W, B [, R]) = f(Conv(X, W, B) + R)
    SparseGemm [Add] [Relu | Relu6 | HardSwish] (X, W, B [, R]) = f(X W^T + B + R)
    SparseConvInvertedResidual [Add] Relu | Relu6 | HardSwish (X, W1, B1, W2, B2, W3, B3 [, R])
        = Conv(f(Conv(f(Conv(X, W1, B1)), W2, B2)), W3, B3) + R
    SparseConvSeparable [Add] Relu | Relu6 | HardSwish (X, W2, B2, W3, B3 [, R]) = Conv(f(Conv(X, W2, B2)), W3, B3) + R

X is (N, C, H, W) or (N, K), weights and biases are constants, R has the shape of the result; all float32. W1 and W3 are
1 x 1, W2 is depthwise (Sandler et al. arXiv 1801.04381, figure 4b). A file that calls one holds a function of that name
too: stock ONNX Runtime writes it out and runs its own kernels, the library runs its own.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import onnx
from onnx import parser

DOMAIN = "mobileprune"
_CONV = "Conv <strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations, group: int = @group> "
_ACTIVATION = "activation"
_SEPARABLE = (_CONV + "($, W2, B2)", _ACTIVATION, "Conv ($, W3, B3)")
BASES = {
    "SparseConv": (_CONV + "($, W, B)",),
    "SparseGemm": ("Gemm <transB: int = 1> ($, W, B)",),
    "SparseConvInvertedResidual": ("Conv ($, W1, B1)", _ACTIVATION, *_SEPARABLE),
    "SparseConvSeparable": _SEPARABLE,
}
"""The steps of the function, but for those that all have in common; $ is the value so far."""
PARAMETERS = {
    "SparseConv": ("W", "B"),
    "SparseGemm": ("W", "B"),
    "SparseConvInvertedResidual": ("W1", "B1", "W2", "B2", "W3", "B3"),
    "SparseConvSeparable": ("W2", "B2", "W3", "B3"),
}
"""Inputs between X and R."""
_ATTRIBUTES = ("strides", "pads", "dilations", "group", "input_size")
ATTRIBUTES = {base: () if base == "SparseGemm" else _ATTRIBUTES for base in BASES}
"""All required; of a block, those of its depthwise layer. ``input_size``: height and width of X, from which the library
lays out memory before it sees one."""
ACTIVATIONS = {"": "", "Relu": "Relu ($)", "Relu6": "Clip ($, low, high)", "HardSwish": "HardSwish ($)"}
CONSTANTS = {"Relu6": ("low = Constant <value = float {0}> ()", "high = Constant <value = float {6}> ()")}


def operator(base: str, *, add: bool, activation: str) -> str:
    """``SparseConvAddRelu``."""
    return f"{base}{'Add' if add else ''}{activation}"


Named = tuple[str, bool, str]


def _named(bases: Collection[str], activations: Collection[str]) -> dict[str, Named]:
    return {
        operator(base, add=add, activation=activation): (base, add, activation)
        for base in bases
        for add in (False, True)
        for activation in activations
    }


OPERATORS = _named(("SparseConv", "SparseGemm"), ACTIVATIONS)
"""Those of one layer: name -> base, whether a residual R is added, activation."""
BLOCKS = _named(("SparseConvInvertedResidual", "SparseConvSeparable"), [f for f in ACTIVATIONS if f])
"""Those of three layers, or two, in the same way."""
ALL = OPERATORS | BLOCKS
WEIGHT_INPUT = 1


def weight_inputs(name: str) -> tuple[int, ...]:
    """Which inputs of the operator ``name`` are weights."""
    parameters = PARAMETERS[ALL[name][0]]
    return tuple(at for at, parameter in enumerate(parameters, 1) if parameter.startswith("W"))


def body(name: str) -> str:
    """The function ``name`` as text."""
    base, add, activation = ALL[name]
    own = [ACTIVATIONS[activation] if step == _ACTIVATION else step for step in BASES[base]]
    last = ACTIVATIONS[activation] if name in OPERATORS else ""
    steps = [step for step in (*own, "Add ($, R)" if add else "", last) if step]
    names = [*(f"y{at}" for at in range(len(steps) - 1)), "Y"]
    lines = [
        f"{made} = {step.replace('$', value)}" for made, step, value in zip(names, steps, ["X", *names], strict=False)
    ]
    lines = [*CONSTANTS.get(activation, ()), *lines]
    attributes = f" <{', '.join(ATTRIBUTES[base])}>" if ATTRIBUTES[base] else ""
    inputs = ", ".join(("X", *PARAMETERS[base], *(("R",) if add else ())))
    return f"{name}{attributes} ({inputs}) => (Y) {{\n    " + "\n    ".join(lines) + "\n}"


@lru_cache(maxsize=64)
def _serialized(name: str, opset: int) -> bytes:
    head = f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
    made: bytes = parser.parse_function(head + body(name)).SerializeToString(deterministic=True)
    return made


def function(name: str, opset: int) -> onnx.FunctionProto:
    """The function of the operator ``name`` over standard operators of ``opset``."""
    made = onnx.FunctionProto()
    made.ParseFromString(_serialized(name, opset))
    return made


def is_function(found: onnx.FunctionProto) -> bool:
    """Whether ``found``, of the name of an operator, is that operator's function, to the last bit."""
    opset = next((o.version for o in found.opset_import if not o.domain), 0)
    return opset > 0 and bool(found.SerializeToString(deterministic=True) == _serialized(found.name, opset))


def is_sparse(node: onnx.NodeProto) -> bool:
    """Whether ``node`` calls one of these operators."""
    return node.domain == DOMAIN and node.op_type in ALL
