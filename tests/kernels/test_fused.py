"""Blocks of layers in one operator against their layers by PyTorch in float64; bits, bytes beyond, and odd files."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from dataclasses import astuple, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from support.kernels import Floats, Guarded, Kernels, Layer, Pair, Threads, at_once, guarded, pool, reference, shuffled
from support.native import answers

from mobileprune.sparse_operators import ALL, BLOCKS, DOMAIN, PARAMETERS, function

TOLERANCE = 1e-5
IDENTITY, RELU, RELU6, HARD_SWISH = range(4)


@dataclass(frozen=True)
class Block:
    in_channels: int = 3
    channels: int = 8
    out_channels: int = 4
    in_size: Pair = (6, 6)
    kernel: int = 3
    stride: int = 1
    pad: tuple[int, int, int, int] = (1, 1, 1, 1)
    expands: int = 1
    activation: int = RELU6

    @property
    def layers(self) -> list[Layer]:
        """The three, of which the first is left out where the block does not expand."""
        expand = Layer(self.in_channels, self.channels, in_size=self.in_size, activation=self.activation)
        square, strides = (self.kernel, self.kernel), (self.stride, self.stride)
        groups, given = self.channels, (self.in_size, square, strides, (1, 1), self.pad)
        depthwise = Layer(self.channels, self.channels, groups, *given, self.activation)
        size = depthwise.output_shape[1:]
        return [expand, depthwise, Layer(self.channels, self.out_channels, in_size=(size[0], size[1]))]


class BlockStruct(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("in_channels", "channels", "out_channels")),
        ("in_size", c_int64 * 2),
        *((name, c_int64) for name in ("kernel", "stride")),
        ("pad", c_int64 * 4),
        *((name, c_int) for name in ("expands", "activation")),
    ]


assert [name for name, *_ in BlockStruct._fields_] == [field.name for field in fields(Block)]


class WeightsStruct(ctypes.Structure):
    _fields_ = [("weights", c_void_p * 3), ("bias", c_void_p * 3)]


@pytest.fixture(scope="module")
def c(kernels: Kernels) -> Any:
    """The library, with what its functions for blocks take and give."""
    block, weights, chosen = POINTER(BlockStruct), POINTER(WeightsStruct), c_int * 2
    for name, gives, takes in (
        ("check", c_char_p, [block]),
        ("choose", None, [block, weights, chosen]),
        ("packed_bytes", c_size_t, [block, weights, chosen]),
        ("pack", c_void_p, [block, weights, chosen, c_void_p]),
        ("scratch_bytes", c_size_t, [c_void_p, c_int64]),
        ("run", None, [c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, POINTER(Threads)]),
        ("multiply_adds", c_int64, [c_void_p]),
    ):
        called = getattr(kernels.c, f"mp_block_{name}")
        called.restype, called.argtypes = gives, takes
    return kernels.c


@dataclass(frozen=True)
class Case:
    """A block and how its numbers are drawn."""

    block: Block
    images: int = 1
    density: float = 0.2
    quads: bool = False
    residual: bool = False
    seed: int = 0

    def numbers(self) -> tuple[Floats, list[Floats], list[Floats], Floats | None]:
        """x, weights and biases of the three layers, residual."""
        rng, layers = np.random.default_rng(self.seed), self.block.layers
        draw: Callable[[tuple[int, ...]], Floats] = lambda s: rng.standard_normal(s).astype(np.float32)  # noqa: E731
        weights = [draw(layer.weight_shape) for layer in layers]
        for layer in weights[::2]:
            rows = len(layer) // 4 if self.quads and len(layer) % 4 == 0 else len(layer)
            layer *= (rng.random((rows, *layer.shape[1:])) < self.density).repeat(len(layer) // rows, 0)
        added = draw((self.images, *layers[-1].output_shape)) if self.residual else None
        x = draw((self.images, self.block.in_channels, *self.block.in_size))
        return x, weights, [draw((len(layer),)) for layer in weights], added

    def expected(self) -> Floats:
        x, weights, biases, residual = self.numbers()
        y: Any = x
        for at, layer in enumerate(self.block.layers):
            if at or self.block.expands:
                y = reference(layer, y, weights[at], biases[at], residual if at == 2 else None)
        made: Floats = y
        return made


class Packed:
    """A packed block. Packing and each run assert that nothing is written beyond what the library asks for."""

    def __init__(self, c: Any, case: Case, kernels: Pair | None = None) -> None:
        self.c, self.case = c, case
        _, weights, biases, _ = case.numbers()
        self.block, given = BlockStruct(*astuple(case.block)), [guarded(part) for part in (*weights, *biases)]
        assert c.mp_block_check(byref(self.block)) is None
        addresses = [part.address if case.block.expands or at % 3 else None for at, part in enumerate(given)]
        struct = WeightsStruct((c_void_p * 3)(*addresses[:3]), (c_void_p * 3)(*addresses[3:]))
        self.kernels = (c_int * 2)(*kernels or ())
        if kernels is None:
            c.mp_block_choose(self.block, struct, self.kernels)
        self.memory = Guarded(c.mp_block_packed_bytes(self.block, struct, self.kernels))
        self.handle = c.mp_block_pack(self.block, struct, self.kernels, self.memory.address)
        assert self.handle
        for part in given:  # what was packed must not depend on the caller's memory any more
            assert part.intact
            part.whole[...] = 0xFF

    def run(self, x: Floats, residual: Floats | None = None, threads: Threads | None = None) -> Floats:
        shape = (len(x), *self.case.block.layers[-1].output_shape)
        images, added = guarded(x), None if residual is None else guarded(residual)
        y = Guarded(4 * int(np.prod(shape)), skew=4)
        scratch = Guarded(self.c.mp_block_scratch_bytes(self.handle, len(x)))
        pointers = (images.address, added and added.address, y.address)
        self.c.mp_block_run(self.handle, *pointers, len(x), scratch.address, threads and byref(threads))
        assert all(buffer.intact for buffer in (images, y, scratch, self.memory))
        return y.floats(shape)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any that is valid: images of one pixel to several bands, channels of up to three chunks."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    kernel, expands = pick(3, 3, 5), pick(1, 1, 0)
    pad = [draw(st.integers(0, kernel - 1)) for _ in range(4)]
    size = [max(1, kernel - pad[d] - pad[d + 2]) + pick(0, 1, 2, 3, 6, 7, 13, 15, 30, 40) for d in range(2)]
    channels = pick(1, 2, 3, 4, 8, 30, 100)
    into = draw(st.integers(1, 20)) if expands else channels
    sizes = (into, channels, pick(1, 2, 3, 4, 8, 68, 132), (size[0], size[1]), kernel, pick(1, 2))
    block = Block(*sizes, (pad[0], pad[1], pad[2], pad[3]), expands, draw(st.integers(0, 3)))
    return Case(
        block, pick(1, 2, 5), pick(0.0, 0.05, 0.3, 1.0), *(draw(st.booleans()) for _ in range(2)), pick(0, 1, 2)
    )


def pairs(kernels: Kernels, block: Block) -> list[Pair]:
    """Kernels for the first layer and the last that can run them, of one instruction set."""
    first, _, last = (kernels.of(layer) for layer in block.layers)
    return [(a, b) for (m, a), (n, b) in product(first.items(), last.items()) if m.split("-")[0] == n.split("-")[0]]


LARGE = {
    "bands": Case(Block(8, 48, 12, (60, 61), stride=2), residual=True),
    "bands of images": Case(Block(8, 40, 16, (57, 30), 5, pad=(2, 2, 2, 2)), images=3),
    "blocks of channels": Case(Block(96, 400, 68, (9, 8)), residual=True),
    "blocks of channels on one pixel": Case(Block(70, 2000, 8, (1, 1), pad=(1, 1, 1, 1)), images=3, density=0.5),
    "no expansion": Case(Block(64, 64, 8, (50, 50), expands=0, activation=RELU), images=2),
    "planes of 4 KiB": Case(Block(4, 20, 4, (33, 30), activation=HARD_SWISH), density=1.0),
    "pads alone": Case(Block(2, 4, 4, (1, 1), 5, pad=(4, 4, 4, 4)), density=1.0),
}


def assert_right(c: Any, kernels: Kernels, case: Case) -> None:
    x, _, _, residual = case.numbers()
    expected = case.expected()
    for chosen in pairs(kernels, case.block):
        error = np.abs(Packed(c, case, chosen).run(x, residual) - expected).max()
        assert error <= TOLERANCE * max(1.0, float(np.abs(expected).max())), [kernels.name(each) for each in chosen]


@given(case=cases())
@settings(max_examples=80)
def test_every_kernel_gives_the_block(c: Any, kernels: Kernels, case: Case) -> None:
    assert_right(c, kernels, case)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_large_blocks(c: Any, kernels: Kernels, case: Case) -> None:
    assert_right(c, kernels, case)


@pytest.mark.parametrize("order", [shuffled, at_once])
@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_threads_give_the_same_bits(c: Any, case: Case, order: Callable[[Callable[[int], None], int], None]) -> None:
    x, _, _, residual = case.numbers()
    packed = Packed(c, case)
    assert packed.run(x, residual, pool(order)).tobytes() == packed.run(x, residual).tobytes()


@pytest.mark.parametrize("name", ["bands of images", "blocks of channels on one pixel"])
def test_an_image_gives_the_same_bits_in_any_batch(c: Any, name: str) -> None:
    packed, x = Packed(c, LARGE[name]), LARGE[name].numbers()[0]
    assert np.concatenate([packed.run(x[i : i + 1]) for i in range(len(x))]).tobytes() == packed.run(x).tobytes()


def test_calls_at_once_share_a_packed_block(c: Any) -> None:
    packed, (x, _, _, residual) = Packed(c, LARGE["bands"]), LARGE["bands"].numbers()
    alone = packed.run(x, residual).tobytes()
    with ThreadPoolExecutor(4) as threads:
        assert {each.result().tobytes() for each in [threads.submit(packed.run, x, residual) for _ in range(8)]} == {
            alone
        }


def test_multiply_adds_are_those_of_the_layers(c: Any, kernels: Kernels) -> None:
    case = Case(Block(activation=RELU, stride=2))
    weights = case.numbers()[1]
    unstructured = min(kernels.runnable.values())
    packed = Packed(c, case, (unstructured, unstructured))
    counted = np.count_nonzero(weights[0]) * 36 + (8 * 9 + np.count_nonzero(weights[2])) * 9
    assert c.mp_block_multiply_adds(packed.handle) == counted


BIG, SMALL = 2**63 - 1, -(2**63)
GOOD = Block()
WRONG = {
    "the depthwise kernel must be 3 x 3 or 5 x 5": [replace(GOOD, kernel=k) for k in (1, 2, 4)],
    "the depthwise stride must be 1 or 2": [replace(GOOD, stride=s) for s in (3, 65536)],
    "pads must be smaller than the depthwise kernel": [replace(GOOD, pad=p) for p in ((3, 0, 0, 0), (1, 1, 1, 65536))],
    "without an expanding layer the input must have the channels of the depthwise one": [replace(GOOD, expands=0)],
    "the block needs more than 67108864 numbers of scratch": [
        Block(2**15, 8, 4, (60, 60)),
        Block(1, 1, 2**23, (4, 4)),
    ],
    "unknown activation": [replace(GOOD, activation=value) for value in (-1, 4)],
    "channels must lie in [1, 16777216]": [
        replace(GOOD, **{name: value})
        for name, value in product(("in_channels", "channels", "out_channels"), (0, -1, 2**24 + 1, BIG, SMALL))
    ],
}


@pytest.mark.parametrize(("message", "wrong"), [(message, block) for message, all_ in WRONG.items() for block in all_])
def test_what_is_no_block_is_refused(c: Any, message: str, wrong: Block) -> None:
    assert c.mp_block_check(BlockStruct(*astuple(wrong))).decode() == message


@given(st.data())
@settings(max_examples=100)
def test_numbers_of_any_size_are_checked(c: Any, kernels: Kernels, data: st.DataObject) -> None:
    number = st.one_of(st.integers(1, 5), st.sampled_from([0, -1, 2**10, 2**16, 2**24, 2**31, 2**32, BIG, SMALL]))
    drawn = [data.draw(number) for _ in range(5)]
    rest = data.draw(st.sampled_from((3, 5))), data.draw(st.sampled_from((1, 2))), data.draw(st.tuples(*[number] * 4))
    block = Block(drawn[0], drawn[1], drawn[2], (drawn[3], drawn[4]), *rest, data.draw(st.integers(0, 1)))
    if c.mp_block_check(BlockStruct(*astuple(block))) is None and max(drawn) <= 2**10 and np.prod(drawn) < 2**14:
        assert_right(c, kernels, Case(block))


def model(name: str, case: Case, **differing: Any) -> onnx.ModelProto:
    """One call of the operator ``name``; ``differing``: attributes, or arrays for inputs."""
    base, add, _ = ALL[name]
    _, weights, biases, residual = case.numbers()
    block, images = case.block, case.images
    given = {f"{kind}{at + 1}": part[at] for at in range(3) for kind, part in (("W", weights), ("B", biases))}
    given |= {"R": residual} | {key: value for key, value in differing.items() if key in given}
    inputs = [*PARAMETERS[base], *(["R"] if add else [])]
    attributes: dict[str, Any] = {"strides": [block.stride] * 2, "pads": list(block.pad), "dilations": [1, 1]}
    attributes |= {"group": block.channels, "input_size": list(block.in_size)}
    attributes |= {key: value for key, value in differing.items() if key in attributes}
    x = helper.make_tensor_value_info("input", 1, [images, block.in_channels, *block.in_size])
    y = helper.make_tensor_value_info("y", 1, [None] * 4)
    node = helper.make_node(name, ["input", *inputs], ["y"], domain=DOMAIN, **attributes)
    constants = [numpy_helper.from_array(given[each], each) for each in inputs]
    graph = helper.make_graph([node], "block", [x], [y], constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[function(name, 18)], opset_imports=opsets, ir_version=9)


def operator_case(name: str) -> Case:
    base, add, activation = ALL[name]
    expands = base == "SparseConvInvertedResidual"
    numbers = {"": IDENTITY, "Relu": RELU, "Relu6": RELU6, "HardSwish": HARD_SWISH}
    block = Block(6 if expands else 8, 8, 5, (9, 7), stride=2, expands=expands, activation=numbers[activation])
    return Case(block, images=2, residual=add)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_operator_and_its_function_give_the_block(library: Path, name: str) -> None:
    case = operator_case(name)
    content = model(name, case)
    onnx.checker.check_model(content, full_check=True)
    for each in (library, None):
        got = answers(content.SerializeToString(), case.numbers()[0], each)
        np.testing.assert_allclose(got, case.expected(), rtol=0, atol=TOLERANCE * np.abs(case.expected()).max())


def ones(*shape: int) -> Floats:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("differing", "message"),
    [
        ({"strides": [2, 1]}, "strides square"),
        ({"dilations": [2, 2]}, "dilations 1"),
        ({"group": 4}, "must be depthwise"),
        ({"group": BIG}, "must be depthwise"),
        ({"pads": [3, 0, 0, 0]}, "pads must be smaller"),
        ({"pads": [-1, 0, 0, 0]}, "pads must lie in"),
        ({"pads": [1, 1]}, "pads four"),
        ({"strides": [3, 3]}, "stride must be 1 or 2"),
        ({"input_size": [9, 8]}, "those of the weights and of input_size"),
        ({"input_size": [65536, 65536]}, "more than"),
        ({"W1": ones(8, 6, 3, 3)}, "the first layer must be 1 x 1"),
        ({"W1": ones(7, 6, 1, 1), "B1": ones(7)}, "the first layer must be 1 x 1"),
        ({"W1": ones(8, 5, 1, 1)}, "those of the weights and of input_size"),
        ({"W1": ones(8, 6)}, "float32 of the rank"),
        ({"W2": ones(8, 2, 3, 3)}, "must be depthwise"),
        ({"W2": ones(8, 1, 3, 5)}, "kernel and strides square"),
        ({"W2": ones(8, 1, 7, 7)}, "kernel must be 3 x 3 or 5 x 5"),
        ({"W3": ones(5, 9, 1, 1)}, "the last layer must be 1 x 1"),
        ({"W3": ones(5, 8, 1, 3)}, "the last layer must be 1 x 1"),
        ({"B1": ones(7)}, "a number for each output channel"),
        ({"B3": ones(6)}, "a number for each output channel"),
        ({"B2": ones(8).astype(np.float64)}, "double"),
    ],
)
def test_a_hostile_file_is_refused(library: Path, differing: dict[str, Any], message: str) -> None:
    case = operator_case("SparseConvInvertedResidualRelu6")
    content = model("SparseConvInvertedResidualRelu6", case, **differing).SerializeToString()
    with pytest.raises(Exception, match=message):
        answers(content, case.numbers()[0], library)
