"""Why there will, or will not, be a speed-up or a smaller file: ``RULES``, for each target.

A rule is a function of a case: what it has to say, with its source, or None where its condition is not met. A new
target gets its line in ``RULES``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from mobileprune.export import target
from mobileprune.export.onnx.native import least_zeros
from mobileprune.export.target import AUTO, DENSE, STOCK
from mobileprune.inspection.case import Case
from mobileprune.inspection.quoted import of_form, of_peer
from mobileprune.inspection.sizes import expected
from mobileprune.pruning.patterns import N_OF_M

GAIN, NONE, LOSS, DEPENDS = "gain", "none", "loss", "depends"
SPEED, SIZE, OUTPUTS = "speed", "size", "outputs"
MULTIPLE, SPARSE_FROM, POINTWISE_FROM = 8, 0.8, 2 / 3
HARDLY = 0.98  # of the size: less is a gain
COUNTED = "counted in this network"
AGAINST = "speed against dense fp32 in ONNX Runtime, x86, one thread"
FORMS_MEASURED = f"{AGAINST} (benchmarks/results/forms.md)"
PEERS_MEASURED = f"{AGAINST}, 90 % zeros (benchmarks/results/kernels-avx512.md)"
BY_HAND = "measured on x86 by hand, in no committed result"


@dataclass(frozen=True)
class Advice:
    about: str
    effect: str
    sentence: str
    source: str


Rule = Callable[[Case], Advice | None]


def multiplies_zeros(engine: str, source: str) -> Rule:
    """Of a runtime whose kernels take dense weights only."""

    def rule(case: Case) -> Advice | None:
        network = case.network
        if not network.zeros:
            return None
        which = f"{network.share:.1%} of the weights are"
        if network.macs and network.zero_macs is not None:
            which = f"{network.zero_macs:,} of {network.macs:,} multiplications for one image are by"
        order = f"in {network.pattern} or not, " if N_OF_M.fullmatch(network.pattern or "") else ""
        sentence = f"{which} zero, and {engine} carries them all out: {order}expect 1.00x of the dense speed"
        return Advice(SPEED, NONE, sentence, source)

    return rule


def nothing_is_pruned(case: Case) -> Advice | None:
    if case.network.zeros or case.network.removed:
        return None
    return Advice(SPEED, NONE, "no weight is zero and no channel is taken out: it is as fast as it was", COUNTED)


def fewer_multiplications(case: Case) -> Advice | None:
    network = case.network
    if network.removed <= 0:
        return None
    if not network.macs or not network.dense_macs:
        return Advice(SPEED, GAIN, f"{network.removed:,} weights are taken out with their channels", COUNTED)
    share = network.macs / network.dense_macs
    return Advice(
        SPEED,
        GAIN,
        f"channels are taken out: {network.macs:,} of {network.dense_macs:,} multiplications are left ({share:.1%}), "
        f"in any runtime; expect up to {1 / share:.1f}x, less in small layers",
        f"{FORMS_MEASURED}: half of the channels, {of_form('onnx fp32 half the channels', 'resnet18', 'lenet5')}",
    )


def odd_channels(case: Case) -> Advice | None:
    layers = [
        x for x in case.network.layers[:-1] if len(x.shape) > 1 and x.shape[0] % MULTIPLE
    ]  # the last one's are the classes
    if case.network.removed <= 0 or not layers:
        return None
    return Advice(
        SPEED,
        LOSS,
        f"{len(layers)} layers (such as {layers[0].name}, {layers[0].shape[0]}) keep a number of channels that is no "
        f"multiple of {MULTIPLE}, which costs up to 1.3x in each: --round-to {MULTIPLE}",
        f"{BY_HAND}: ONNX Runtime, 1.2 to 1.3x",
    )


def masked_channels(case: Case) -> Advice | None:
    network = case.network
    if not network.zero_channels or not (network.counted or network.pattern == "filter"):  # by chance, in a plan
        return None
    return Advice(
        SPEED,
        NONE,
        f"{network.zero_channels:,} output channels hold nothing but zeros and are computed all the same: "
        "--pattern channel takes channels out",
        COUNTED,
    )


def stored_bytes(case: Case) -> Advice | None:
    """What zeros, precision and removed channels make of the weights."""
    network, sizes = case.network, expected(case)
    forms = target(case.target).forms if case.form == AUTO else (case.form,)
    best = min([form for form in forms if form in sizes] or [DENSE], key=lambda form: sizes[form])
    before = network.dense_weights * 4
    sentence = f"weights take about {sizes[best]:,} bytes ({best}); dense, unpruned and in fp32 they take {before:,}"
    if network.zeros and (untold := [form for form in forms if form not in sizes]):
        sentence += f"; how much less it is in form {', '.join(untold)} turns out when the file is written"
        return Advice(SIZE, DEPENDS, sentence, COUNTED)
    if network.zeros and sizes[best] > HARDLY * sizes[DENSE]:
        why = "form dense stores every zero" if [*forms] == [DENSE] else f"{', '.join(forms)} hardly differ"
        sentence += f"; {why}, and only compression of the app package makes it smaller"
    formula = "the entropy of where nonzeros lie, and the bits of each (mobileprune.inspection.sizes)"
    return Advice(SIZE, GAIN if sizes[best] < HARDLY * before else NONE, sentence, formula)


def int8_in_onnxruntime(case: Case) -> Advice | None:
    if case.precision != "int8":
        return None
    return Advice(
        SPEED,
        DEPENDS,
        "int8 arithmetic may be faster or slower than fp32, depending on the network: bench it",
        f"{FORMS_MEASURED}: {of_form('onnx int8 dense', 'resnet18', 'lenet5')}",
    )


def fp16_is_widened(case: Case) -> Advice | None:
    if case.precision != "fp16":
        return None
    return Advice(
        SPEED,
        NONE,
        "fp16 halves the file and not the time: numbers are widened when it is loaded, arithmetic stays float32",
        f"{FORMS_MEASURED}: {of_form('onnx fp16 packed', 'resnet18')}; on x86 ONNX Runtime has no float16 kernels",
    )


def outputs_move(case: Case) -> Advice | None:
    if case.precision != "int8":
        return None
    return Advice(
        OUTPUTS,
        DEPENDS,
        "int8 moves the probabilities of single images: what an audit says of the fp32 file does not hold for this one",
        "measured (benchmarks/results/forms.md): logits of ResNet-18 move by up to 0.8, 0.9 % of images change class",
    )


def slow_interpreter(case: Case) -> Advice | None:
    return Advice(
        SPEED,
        LOSS,
        "the lite interpreter takes longer than ONNX Runtime for the same network: --target onnx",
        f"{FORMS_MEASURED}: {of_form('torchscript-lite fp32 dense', 'resnet18', 'lenet5')}; PyTorch has deprecated it",
    )


def mnn_skips_zeros(case: Case) -> Advice | None:
    share = case.network.share
    if not case.network.zeros:
        return None
    if case.form == DENSE:
        return Advice(
            SPEED, NONE, "form dense multiplies by zero: --sparse-format sparse does not", "MNN 3.6: its file format"
        )
    if share < SPARSE_FROM:
        return Advice(
            SPEED,
            LOSS,
            f"{share:.1%} of the weights are zero: MNN's sparse kernels pay from about {SPARSE_FROM:.0%} on, and take "
            "longer than its dense ones at 70 %: --sparsity 0.9, or --sparse-format dense",
            f"{BY_HAND}: MNN 3.6",
        )
    return Advice(
        SPEED,
        GAIN,
        f"{share:.1%} of the weights are zero, and MNN computes layers with enough of them from the rest",
        f"{PEERS_MEASURED}: MNN sparse, {of_peer('MNN sparse', 'unstructured', 'resnet18', 'mobilenetv2')}; "
        f"MNN dense, {of_peer('MNN', '', 'resnet18', 'mobilenetv2')}",
    )


def blocks_in_mnn(case: Case) -> Advice | None:
    rows = re.fullmatch(r"block:(\d+)x1", case.network.pattern or "")
    if not case.network.zeros or case.form == DENSE or not rows or int(rows[1]) % 4:
        return None
    return Advice(
        SPEED,
        NONE,
        "in MNN output channels that share their zeros by fours are no faster than single zeros",
        f"{PEERS_MEASURED}: blocks, {of_peer('MNN sparse', 'block:4x1', 'resnet18', 'mobilenetv2')}; "
        f"single zeros, {of_peer('MNN sparse', 'unstructured', 'resnet18', 'mobilenetv2')}",
    )


def xnnpack_pointwise(case: Case) -> Advice | None:
    network = case.network
    if not network.zeros:
        return None
    pointwise = [x for x in network.layers if all(size == 1 for size in x.shape[2:])]
    share = sum(x.zeros for x in pointwise) / max(sum(x.total for x in pointwise), 1)
    if not any(len(x.shape) > 2 for x in pointwise):
        why = "this network has no 1x1 convolution"
    elif network.layers[0].shape[1:] != (3, 3, 3):
        why = "this network does not begin with a 3x3 convolution of 3 channels"
    elif share <= POINTWISE_FROM or case.form == DENSE:
        why = f"here {share:.1%} of these weights are zero, in form {case.form}"
    else:
        why = ""
    rule = (
        "XNNPACK skips zeros only on ARM and on x86 without AVX, in 1x1 convolutions behind a 3x3 stem of stride 2, "
        "when more than two thirds of their and the linear weights are zero and stored as sparse"
    )
    if why:
        return Advice(SPEED, NONE, f"{rule}: {why}; expect 1.00x", "XNNPACK's rules")
    return Advice(
        SPEED,
        DEPENDS,
        f"{rule}: here {share:.1%}, so time may fall on an ARM phone and not on this kind of computer",
        f"{PEERS_MEASURED}: LiteRT sparse, {of_peer('LiteRT sparse', 'unstructured', 'mobilenetv2')}; dense, "
        f"{of_peer('LiteRT', '', 'mobilenetv2')}; without AVX, sparse kernels seen to be chosen, not timed",
    )


ORT = multiplies_zeros(
    "ONNX Runtime",
    f"{FORMS_MEASURED}, 90 % zeros: {of_form('onnx fp32 dense', 'resnet18', 'lenet5')}",
)


def zeros_in_onnxruntime(case: Case) -> Advice | None:
    """As above, or by the native library."""
    layers = case.network.layers
    many = [x for x in layers if x.zeros >= least_zeros(x.total, x.pixels) * x.total]
    if case.kernels != STOCK and many:
        return Advice(
            SPEED,
            DEPENDS,
            f"at least {len(many)} of {len(layers)} layers have enough zeros: where mobileprune's native library is "
            "installed, it computes them (but for depthwise ones) from the rest; elsewhere expect 1.00x",
            f"--kernels {case.kernels}: its rule (export/README.md)",
        )
    advice = ORT(case)
    if advice is None or not many:
        return advice
    hint = "; --kernels native computes layers with many zeros from the rest, where the native library is installed"
    return replace(advice, sentence=advice.sentence + hint)


COMMON: tuple[Rule, ...] = (nothing_is_pruned, fewer_multiplications, odd_channels, masked_channels, stored_bytes)
RULES: dict[str, tuple[Rule, ...]] = {
    "onnx": (zeros_in_onnxruntime, int8_in_onnxruntime, fp16_is_widened, outputs_move, *COMMON),
    "ort": (ORT, int8_in_onnxruntime, fp16_is_widened, outputs_move, *COMMON),
    "executorch": (
        multiplies_zeros("ExecuTorch with XNNPACK", "ExecuTorch 1.5: its kernels take dense weights only"),
        outputs_move,
        *COMMON,
    ),
    "torchscript-lite": (
        multiplies_zeros("the lite interpreter", "PyTorch's lite interpreter: its kernels take dense weights only"),
        slow_interpreter,
        outputs_move,
        *COMMON,
    ),
    "litert": (xnnpack_pointwise, outputs_move, *COMMON),
    "mnn": (mnn_skips_zeros, blocks_in_mnn, outputs_move, *COMMON),
}


def advise(case: Case) -> tuple[Advice, ...]:
    """All that the rules of the target have to say, in their order."""
    return tuple(advice for rule in RULES[case.target] if (advice := rule(case)))


def overall(advices: tuple[Advice, ...], about: str) -> str:
    """One effect of all: "depends" where they disagree."""
    effects = {advice.effect for advice in advices if advice.about == about} - {NONE}
    return NONE if not effects else effects.pop() if len(effects) == 1 else DEPENDS
