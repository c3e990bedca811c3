"""Every rule speaks where its condition holds and is silent where it does not; every target has its say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mobileprune.export import TARGETS
from mobileprune.inspection import advice, quoted
from mobileprune.inspection.advice import RULES, Advice, advise, overall
from mobileprune.inspection.case import Case, Network
from mobileprune.inspection.contents import Layer
from mobileprune.inspection.sizes import BITS


def case(target: str = "onnx", zeros: float = 0.9, **changes: Any) -> Case:
    """A stem, a 1x1 convolution and a linear layer, all with the same share of ``zeros``."""
    shapes = changes.pop("shapes", ((16, 3, 3, 3), (64, 16, 1, 1), (10, 64)))
    gone = changes.pop("gone", 0)
    layers = tuple(
        Layer(f"l{i}", s, round(zeros * n), changes.pop("zero_channels", 0), n * 100)
        for i, s in enumerate(shapes)
        for n in [Layer("", s, 0).total]
    )
    total, macs = sum(x.total for x in layers), sum(x.macs or 0 for x in layers)
    network = Network(
        layers,
        None if changes.pop("uncounted", False) else macs,
        total + gone,
        macs + 100 * gone,
        changes.pop("pattern", "unstructured"),
        changes.pop("counted", True),
    )
    return Case(
        network, target, changes.pop("precision", "fp32"), changes.pop("form", "auto"), changes.pop("kernels", "stock")
    )


CHANNEL = {"zeros": 0, "gone": 5000, "pattern": "channel"}
NO_STEM = ((16, 1, 5, 5), (64, 16, 1, 1), (10, 64))
NO_POINTWISE = ((16, 3, 3, 3), (64, 16, 3, 3), (10, 64))
ODD = ((15, 3, 3, 3), (64, 15, 1, 1), (10, 64))


@pytest.mark.parametrize(
    ("rule", "speaks", "effect", "words", "silent"),
    [
        (advice.ORT, {}, "none", "expect 1.00x", {"zeros": 0}),
        (advice.ORT, {"uncounted": True}, "none", "90.0% of the weights are zero", CHANNEL),
        (advice.ORT, {"pattern": "2:4", "zeros": 0.5}, "none", "in 2:4 or not", {"zeros": 0}),
        (advice.zeros_in_onnxruntime, {}, "none", "expect 1.00x of the dense speed; --kernels native", {"zeros": 0}),
        (advice.zeros_in_onnxruntime, {"zeros": 0.6}, "none", "expect 1.00x of the dense speed", {"zeros": 0}),
        (advice.zeros_in_onnxruntime, {"kernels": "native"}, "depends", "2 of 3 layers", {"zeros": 0}),
        (advice.zeros_in_onnxruntime, {"kernels": "native", "zeros": 0.6}, "none", "expect 1.00x", {"zeros": 0}),
        (advice.nothing_is_pruned, {"zeros": 0}, "none", "no weight is zero", {}),
        (advice.nothing_is_pruned, {"zeros": 0}, "none", "as fast as it was", CHANNEL),
        (advice.fewer_multiplications, CHANNEL, "gain", "are left (29.5%), in any runtime; expect up to 3.4x", {}),
        (advice.fewer_multiplications, CHANNEL | {"uncounted": True}, "gain", "5,000 weights", {"zeros": 0}),
        (advice.odd_channels, CHANNEL | {"shapes": ODD}, "loss", "l0, 15) keep", CHANNEL),
        (advice.odd_channels, CHANNEL | {"shapes": ODD}, "loss", "--round-to 8", {"shapes": ODD}),
        (advice.masked_channels, {"zero_channels": 4}, "none", "4 output channels", {}),
        (
            advice.masked_channels,
            {"zero_channels": 4, "counted": False, "pattern": "filter"},
            "none",
            "--pattern channel",
            {"zero_channels": 4, "counted": False},
        ),
        (advice.int8_in_onnxruntime, {"precision": "int8"}, "depends", "faster or slower", {}),
        (advice.outputs_move, {"precision": "int8"}, "depends", "audit", {"precision": "fp16"}),
        (advice.fp16_is_widened, {"precision": "fp16"}, "none", "stays float32", {"precision": "int8"}),
        (advice.mnn_skips_zeros, {"target": "mnn"}, "gain", "computes layers", {"target": "mnn", "zeros": 0}),
        (advice.mnn_skips_zeros, {"target": "mnn", "zeros": 0.7}, "loss", "from about 80% on", CHANNEL),
        (advice.mnn_skips_zeros, {"target": "mnn", "form": "dense"}, "none", "--sparse-format sparse", CHANNEL),
        (advice.blocks_in_mnn, {"target": "mnn", "pattern": "block:8x1"}, "none", "by fours", {"target": "mnn"}),
        (
            advice.blocks_in_mnn,
            {"target": "mnn", "pattern": "block:4x1"},
            "none",
            "no faster",
            {"target": "mnn", "pattern": "block:2x1"},
        ),
        (advice.xnnpack_pointwise, {"target": "litert"}, "depends", "ARM phone", {"target": "litert", "zeros": 0}),
        (advice.xnnpack_pointwise, {"target": "litert", "zeros": 0.6}, "none", "60.0% of these", CHANNEL),
        (advice.xnnpack_pointwise, {"target": "litert", "form": "dense"}, "none", "in form dense", CHANNEL),
        (advice.xnnpack_pointwise, {"target": "litert", "shapes": NO_STEM}, "none", "does not begin", CHANNEL),
        (advice.xnnpack_pointwise, {"target": "litert", "shapes": NO_POINTWISE}, "none", "no 1x1", CHANNEL),
    ],
)
def test_a_rule_speaks_where_its_condition_holds(rule, speaks, effect, words, silent) -> None:
    said = rule(case(**speaks))
    assert (said.effect, words in said.sentence) == (effect, True), said
    assert said.source
    assert rule(case(**silent)) is None


@pytest.mark.parametrize(
    ("changes", "effect", "words"),
    [
        ({}, "gain", "(packed)"),
        ({"zeros": 0}, "none", "about 8,384 bytes"),
        ({"zeros": 0, "precision": "fp16"}, "gain", "about 4,192 bytes"),
        ({"form": "dense"}, "none", "form dense stores every zero, and only compression"),
        ({"target": "executorch"}, "none", "form dense stores every zero"),
        ({"zeros": 0.02}, "none", "dense, coo, packed hardly differ"),
        ({"target": "mnn"}, "depends", "in form sparse turns out"),
        ({"target": "mnn", "form": "sparse"}, "depends", "in form sparse turns out"),
        ({"target": "mnn", "precision": "int8", "zeros": 0}, "gain", "2,096 bytes"),
        (CHANNEL, "gain", "(dense)"),
    ],
)
def test_the_size_of_the_weights(changes, effect, words) -> None:
    said = advice.stored_bytes(case(**changes))
    assert said is not None
    assert (said.effect, words in said.sentence) == (effect, True), said


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_says_why_about_speed_and_size(target) -> None:
    for zeros in (0.0, 0.5, 0.9):
        for precision in (name for name in BITS if name in TARGETS[target].precisions):
            found = advise(case(target, zeros, precision=precision))
            assert {"speed", "size"} <= {each.about for each in found}


def test_quoted_numbers_are_those_of_the_newest_results() -> None:
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    forms = json.loads(max(results.glob("*-forms.json")).read_text("utf-8"))["networks"]
    measured = {
        (network, file): forms[network]["rows"][file]["bench"]["speedup"]["value"] for network, file in quoted.FORMS
    }
    assert {key: float(f"{value:.2g}") for key, value in measured.items()} == quoted.FORMS

    kernels = json.loads(max(results.glob("*-avx512-*-kernels.json")).read_text("utf-8"))["networks"]
    measured = {
        (network, peer["peer"], peer["pattern"]): peer["ratio"]["value"]
        for network, found in kernels.items()
        for peer in found["peers"]
        if peer["threads"] == 1
    }
    assert {key: float(f"{measured[key]:.2g}") for key in quoted.PEERS} == quoted.PEERS


def test_no_rules_for_what_is_no_target() -> None:
    assert RULES.keys() == TARGETS.keys()


def test_every_rule_is_somebodys() -> None:
    named = {
        rule
        for name, rule in vars(advice).items()
        if callable(rule) and name.islower() and rule.__module__ == advice.__name__
    }
    used = {rule for rules in RULES.values() for rule in rules}
    assert named - used == {advice.advise, advice.overall, advice.multiplies_zeros}


def test_one_effect_of_many() -> None:
    def of(*effects: str) -> str:
        return overall(tuple(Advice("speed", effect, "", "") for effect in effects), "speed")

    assert (of(), of("none"), of("none", "gain"), of("loss"), of("gain", "loss")) == (
        "none",
        "none",
        "gain",
        "loss",
        "depends",
    )
    assert overall((Advice("size", "gain", "", ""),), "speed") == "none"
