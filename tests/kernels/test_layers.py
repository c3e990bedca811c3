"""Every kernel that this CPU runs against PyTorch in float64; the same bits from any threads; no byte beyond."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.kernels import Floats, Kernels, Layer, Packed, at_once, convolved, pool, reference, shuffled

TOLERANCE = 1e-5
DENSITIES = (0.0, 0.05, 0.1, 0.3, 1.0)
IDENTITY, RELU, RELU6, HARD_SWISH = range(4)


@dataclass(frozen=True)
class Case:
    """A layer and how its numbers are drawn."""

    layer: Layer
    images: int = 1
    density: float = 0.1
    blocks: bool = False
    residual: bool = False
    seed: int = 0

    @property
    def numbers(self) -> tuple[Floats, Floats, Floats, Floats | None]:
        """x, weights, bias, residual."""
        rng, shape = np.random.default_rng(self.seed), self.layer.weight_shape
        kept = rng.random((shape[0] // 4, *shape[1:])).repeat(4, 0) if self.blocks else rng.random(shape)
        draw: Callable[[tuple[int, ...]], Floats] = lambda s: rng.standard_normal(s).astype(np.float32)  # noqa: E731
        weights = np.where(kept < self.density, draw(shape), 0).astype(np.float32)
        if self.density < 1:
            weights[rng.integers(shape[0])] = 0  # an empty row
        added = draw((self.images, *self.layer.output_shape)) if self.residual else None
        return draw((self.images, *self.layer.input_shape)), weights, draw(shape[:1]), added


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Any that is valid: channels of up to 3 kernels' chunks, images of one pixel to rows of more than a tile."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    groups = pick(1, 1, 1, 2, 3)
    channels = groups * draw(st.integers(1, 20)), groups * pick(1, 2, 3, 4, 8, 12, 64, 100)
    if draw(st.booleans()) and channels[0] % groups == 0 and pick(True, False, False):  # depthwise
        groups, channels = channels[0], (channels[0], channels[0] * pick(1, 2, 4))
    kernel, stride, dilation = ((pick(1, 1, 2, 3, 5), pick(1, 1, 2, 3, 7)) for _ in range(3))
    stride, dilation = (min(stride[0], 4), min(stride[1], 4)), (min(dilation[0], 3), min(dilation[1], 3))
    pad = (pick(0, 1, 3), pick(0, 1, 2), pick(0, 1, 2), pick(0, 1, 4))
    least = [
        max(1, (k - 1) * d + 1 - pad[i] - pad[i + 2]) for i, (k, d) in enumerate(zip(kernel, dilation, strict=True))
    ]
    in_size = (least[0] + draw(st.integers(0, 17)), least[1] + draw(st.integers(0, 33)))
    return Layer(*channels, groups, in_size, kernel, stride, dilation, pad, draw(st.integers(0, 3)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    layer = draw(layers())
    blocks = layer.out_channels % 4 == 0 and draw(st.booleans())
    drawn = draw(st.integers(1, 3)), draw(st.sampled_from(DENSITIES))
    return Case(layer, *drawn, blocks, draw(st.booleans()), draw(st.integers(0, 2**32)))


def packed(kernels: Kernels, case: Case, kernel: int) -> Packed:
    return Packed(kernels, case.layer, case.numbers[1], case.numbers[2], kernel)


def assert_right(kernels: Kernels, case: Case) -> None:
    x, weights, bias, residual = case.numbers
    expected = reference(case.layer, x, weights, bias, residual)
    for name, kernel in kernels.of(case.layer).items():
        got = packed(kernels, case, kernel).run(x, residual)
        error = float(np.abs(got - expected).max())
        assert error <= TOLERANCE * max(1.0, float(np.abs(expected).max())), (name, error)


LARGE = {
    "blocks of input channels": Case(Layer(128, 8, 1, (14, 14), (3, 3), pad=(1, 1, 1, 1)), residual=True),
    "blocks on one pixel": Case(Layer(7000, 12), images=3, density=0.5),
    "chunks of output channels": Case(Layer(5, 516, 1, (3, 3), (3, 3), pad=(1, 1, 1, 1), activation=RELU), images=2),
    "a row of several tiles": Case(
        Layer(3, 4, 1, (2, 1000), (1, 3), pad=(0, 1, 0, 1), activation=RELU6), residual=True
    ),
    "many tiles of one row": Case(Layer(2, 4, 1, (1, 16400), activation=HARD_SWISH), density=0.5),
    "groups of images": Case(Layer(3, 4, 1, (224, 224), (3, 3), (2, 2), pad=(1, 1, 1, 1)), images=12, residual=True),
    "planes of 4 KiB": Case(Layer(24, 4, 1, (32, 32), (1, 1), (2, 2)), images=2),
    "dense depthwise": Case(Layer(40, 40, 40, (14, 14), (3, 3), pad=(1, 1, 1, 1)), density=1.0),
    "no pixel of the image": Case(Layer(1, 4, 1, (1, 1), (1, 1), (3, 3), pad=(1, 1, 2, 2)), density=1.0),
}


@given(cases())
@settings(max_examples=120)
def test_every_kernel_gives_the_layer(kernels: Kernels, case: Case) -> None:
    assert_right(kernels, case)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_large_layers(kernels: Kernels, case: Case) -> None:
    assert_right(kernels, case)


def test_kernels_have_names_and_the_portable_one_runs(kernels: Kernels) -> None:
    sets = {name.split("-")[0] for name in kernels.runnable}
    assert sets & {"portable", "neon"}
    assert set(kernels.runnable) == {f"{each}-{kind}" for each, kind in product(sets, ("unstructured", "quads"))}
    assert (kernels.name(-1), kernels.name(1000)) == (None, None)
    assert not kernels.c.mp_kernel_runs(-1)
    assert not kernels.c.mp_kernel_runs(1000)


def test_what_a_kernel_cannot_pack_takes_no_bytes(kernels: Kernels) -> None:
    layer = Layer(2, 6)
    weights = np.ones(layer.weight_shape, np.float32)
    sizes = {name: kernels.packed_bytes(layer, weights, kernel) for name, kernel in kernels.runnable.items()}
    assert all((size == 0) == name.endswith("quads") for name, size in sizes.items())
    assert [kernels.packed_bytes(layer, weights, kernel) for kernel in (-1, 1000)] == [0, 0]


@pytest.mark.parametrize(("blocks", "kind"), [(True, "quads"), (False, "unstructured")])
def test_the_choice_follows_the_zeros(kernels: Kernels, blocks: bool, kind: str) -> None:
    weights = Case(Layer(32, 64), blocks=blocks).numbers[1]
    chosen = kernels.choose(Layer(32, 64), weights)
    assert chosen in kernels.runnable
    assert str(chosen).endswith(kind)


def test_multiply_adds_are_nonzeros_times_pixels(kernels: Kernels) -> None:
    case = Case(Layer(8, 8, 1, (7, 9), (3, 3)))
    weights = case.numbers[1]
    found = {name: packed(kernels, case, kernel).multiply_adds for name, kernel in kernels.of(case.layer).items()}
    stored = {"unstructured": (weights != 0).sum(), "quads": 4 * (weights.reshape(2, 4, -1) != 0).any(1).sum()}
    assert found == {name: stored[name.split("-")[1]] * 5 * 7 for name in found}


@pytest.mark.parametrize(
    ("layer", "rows", "columns"),
    [
        (Layer(4, 4, 1, (1, 1), (3, 3), pad=(1, 1, 1, 1)), [1], [1]),
        (Layer(4, 4, 1, (1, 2), (3, 3), pad=(1, 1, 1, 1)), [1], [0, 1, 2]),
        (Layer(4, 4, 1, (2, 2), (3, 3), (2, 2), pad=(1, 1, 1, 1)), [1, 2], [1, 2]),
        (Layer(4, 4, 1, (2, 3), (3, 3), (1, 1), (2, 2), pad=(2, 2, 2, 2)), [1], [0, 1, 2]),
        (Layer(4, 4, 1, (1, 1), (1, 5), pad=(0, 4, 0, 2)), [0], [2, 3, 4]),
    ],
)
def test_what_meets_only_padding_is_not_multiplied(
    kernels: Kernels, layer: Layer, rows: list[int], columns: list[int]
) -> None:
    case = Case(layer, density=0.5)
    weights, (_, height, width) = case.numbers[1], layer.output_shape
    seen = weights.reshape(4, 4, *layer.kernel)[:, :, rows][:, :, :, columns]
    for kernel in (k for k in kernels.runnable.values() if kernels.name(k).endswith("unstructured")):
        assert packed(kernels, case, kernel).multiply_adds == (seen != 0).sum() * height * width
    assert_right(kernels, case)


def test_no_bias_is_a_bias_of_zeros(kernels: Kernels) -> None:
    layer, (x, weights, bias, _) = Layer(4, 4, 1, (5, 5)), Case(Layer(4, 4, 1, (5, 5))).numbers
    for kernel in kernels.of(layer).values():
        made = [Packed(kernels, layer, weights, each, kernel).run(x) for each in (None, 0 * bias)]
        np.testing.assert_array_equal(*made)


def backwards(task: Callable[[int], None], count: int) -> None:
    for index in reversed(range(count)):
        task(index)


@pytest.mark.parametrize("order", [backwards, shuffled, at_once])
@given(case=cases())
@example(case=replace(LARGE["blocks of input channels"], images=2))
@example(case=LARGE["chunks of output channels"])
@settings(max_examples=15)
def test_threads_give_the_same_bits(
    kernels: Kernels, order: Callable[[Callable[[int], None], int], None], case: Case
) -> None:
    x, _, _, residual = case.numbers
    for name, kernel in kernels.of(case.layer).items():
        layer = packed(kernels, case, kernel)
        alone = layer.run(x, residual)
        assert layer.run(x, residual, pool(order)).tobytes() == alone.tobytes(), name


def test_images_at_once_have_sums_of_their_own(kernels: Kernels) -> None:
    """Tasks of a millisecond, so that threads do meet."""
    case = Case(Layer(128, 64, 1, (28, 28), (3, 3), pad=(1, 1, 1, 1)), images=5, density=0.5)
    x = case.numbers[0]
    for name, kernel in kernels.of(case.layer).items():
        layer = packed(kernels, case, kernel)
        assert layer.run(x, threads=pool(at_once)).tobytes() == layer.run(x).tobytes(), name


def test_calls_at_once_share_a_packed_layer(kernels: Kernels) -> None:
    case = LARGE["blocks of input channels"]
    x, _, _, residual = case.numbers
    for kernel in kernels.of(case.layer).values():
        layer = packed(kernels, case, kernel)
        alone = layer.run(x, residual).tobytes()
        with ThreadPoolExecutor(4) as threads:
            made = [threads.submit(layer.run, x, residual) for _ in range(16)]
        assert {each.result().tobytes() for each in made} == {alone}


@pytest.mark.parametrize("name", ["groups of images", "chunks of output channels", "blocks on one pixel"])
def test_an_image_gives_the_same_bits_in_any_batch(kernels: Kernels, name: str) -> None:
    case = replace(LARGE[name], residual=False)
    x = case.numbers[0]
    for kernel in kernels.of(case.layer).values():
        layer = packed(kernels, case, kernel)
        assert np.concatenate([layer.run(x[i : i + 1]) for i in range(len(x))]).tobytes() == layer.run(x).tobytes()


@given(cases())
@settings(max_examples=40)
def test_nan_reaches_the_pixels_whose_weights_meet_it(kernels: Kernels, case: Case) -> None:
    """And no other: those have the bits that they have without it. Quads multiply it by their zeros as well."""
    x, weights, _, residual = case.numbers
    rng, broken = np.random.default_rng(case.seed), x.copy()
    broken[rng.integers(len(x)), rng.integers(x.shape[1]), rng.integers(x.shape[2]), rng.integers(x.shape[3])] = np.nan
    of_four = (weights != 0).reshape(-1, 4, *weights.shape[1:]).any(1).repeat(4, 0) if len(weights) % 4 == 0 else None
    met = convolved(case.layer, np.isnan(broken), weights != 0) > 0
    for name, kernel in kernels.of(case.layer).items():
        layer = packed(kernels, case, kernel)
        clean, got = layer.run(x, residual), layer.run(broken, residual)
        may = (
            met
            if of_four is None or name.endswith("unstructured")
            else convolved(case.layer, np.isnan(broken), of_four) > 0
        )
        assert np.isnan(got[met]).all(), name
        assert got[~may].tobytes() == clean[~may].tobytes(), name


@given(cases(), st.sampled_from([np.inf, -np.inf]), st.booleans())
@settings(max_examples=40)
def test_infinities_are_those_of_pytorch(kernels: Kernels, case: Case, value: float, in_residual: bool) -> None:
    case = replace(case, density=1.0, residual=case.residual or in_residual)
    x, weights, bias, residual = case.numbers
    broken = residual if in_residual and residual is not None else x
    broken.reshape(-1)[np.random.default_rng(case.seed).integers(broken.size)] = value
    expected = reference(case.layer, x, weights, bias, residual)
    for name, kernel in kernels.of(case.layer).items():
        got = packed(kernels, case, kernel).run(x, residual)
        special = ~np.isfinite(expected)
        np.testing.assert_array_equal(got[special], expected[special], name)
        assert np.isfinite(got[~special]).all(), name


BIG, SMALL = 2**63 - 1, -(2**63)
WRONG = {
    "channels must lie in [1, 16777216]": [
        Layer(**{field: value})  # type: ignore[arg-type]
        for field, value in product(("in_channels", "out_channels"), (0, -1, 2**24 + 1, BIG, SMALL))
    ],
    "group must divide the channels of input and output": [
        Layer(4, 4, groups) for groups in (0, -1, -2, 3, 8, BIG, SMALL)
    ]
    + [Layer(4, 6, 4), Layer(6, 4, 4)],
    "height and width of input and kernel must lie in [1, 65536]": [
        Layer(**{field: size})  # type: ignore[arg-type]
        for field, size in product(("in_size", "kernel"), ((0, 1), (1, 0), (-1, 1), (65537, 1), (1, BIG), (SMALL, 1)))
    ],
    "strides and dilations must lie in [1, 65536]": [
        Layer(**{field: size})  # type: ignore[arg-type]
        for field, size in product(("stride", "dilation"), ((0, 1), (1, 0), (-1, 1), (65537, 1), (1, BIG), (SMALL, 1)))
    ],
    "pads must lie in [0, 65536]": [
        Layer(pad=tuple(value if i == at else 0 for i in range(4)))  # type: ignore[arg-type]
        for at, value in product(range(4), (-1, 65537, BIG, SMALL))
    ],
    "unknown activation": [Layer(activation=value) for value in (-1, 4, 2**31 - 1, -(2**31))],
    "the kernel is larger than the padded input": [
        Layer(in_size=(4, 4), kernel=(5, 1)),
        Layer(in_size=(4, 4), kernel=(1, 5)),
        Layer(in_size=(4, 4), kernel=(3, 3), dilation=(1, 2)),
        Layer(in_size=(4, 4), kernel=(3, 3), dilation=(3, 1), pad=(1, 0, 1, 0)),
        Layer(kernel=(65536, 65536), dilation=(65536, 65536), pad=(65536,) * 4),
    ],
    "weights, padded input or output have more than 536870912 numbers": [
        Layer(2**24, 2**24),
        Layer(2**24, 2**24, 2**24, (65536, 65536)),
        Layer(in_size=(65536, 65536)),
        Layer(pad=(65536,) * 4),
        Layer(in_channels=2**12, in_size=(512, 512)),
        Layer(out_channels=2**12, in_size=(512, 512)),
        Layer(2**12, 2**12, kernel=(6, 6), in_size=(6, 6)),
    ],
}


@pytest.mark.parametrize(("message", "wrong"), [(message, layer) for message, all_ in WRONG.items() for layer in all_])
def test_what_no_kernel_takes_is_refused(kernels: Kernels, message: str, wrong: Layer) -> None:
    assert kernels.check(wrong) == message


@given(layers(), st.sampled_from(sorted(vars(Layer()))), st.integers(0, 3), st.sampled_from([2**k for k in range(64)]))
@settings(max_examples=150)
def test_a_number_of_any_size_is_checked(kernels: Kernels, layer: Layer, field: str, at: int, size: int) -> None:
    """What is not refused is packed and run if it is small: no arithmetic of the check overflows."""
    old, bits = getattr(layer, field), 31 if field == "activation" else 63
    any_number = size % 2**bits or SMALL // 2 ** (63 - bits)
    new = (
        tuple(any_number if i == at % len(old) else n for i, n in enumerate(old))
        if isinstance(old, tuple)
        else any_number
    )
    changed = replace(layer, **{field: new})
    said = kernels.check(changed)
    assert said in (*WRONG, "")
    if not said and math.prod(changed.weight_shape) * math.prod(changed.in_size) < 2**16 and max(changed.pad) < 9:
        assert_right(kernels, Case(changed, density=0.5))
