"""Hardened outputs against plain Python, as properties over logits full of ties, and in real files of both targets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.runtimes import INSTALLED, MEAN, SHAPE, STD, network, opened, pixels
from torch import nn

from mobileprune.attacks import ATTACKS, Evidence
from mobileprune.audit.statistics import auc, tpr_at_fpr
from mobileprune.convert.harden import HARDENINGS, NONE, ZERO, harden, hardening, head
from mobileprune.convert.preprocessing import Baked
from mobileprune.errors import UsageError
from mobileprune.export import ExportOptions, target
from mobileprune.export.lint import lint
from mobileprune.export.onnx import MAX_OPSET

pytestmark = pytest.mark.usefixtures("exporter_once")
SPECS = (
    "temperature:0.01",
    "temperature:3",
    "round:0",
    "round:1",
    "round:2",
    "round:6",
    "topk:1",
    "topk:2",
    "label-only",
)
Array = NDArray[np.float64]


def scores(spec: str, logits: list[list[float]] | NDArray[np.floating]) -> NDArray[np.float32]:
    z = torch.from_numpy(np.asarray(logits, np.float32))
    found = head(spec, z.shape[1])
    assert found is not None
    return found(z).numpy()


def softmax(z: NDArray[np.floating]) -> Array:
    shifted = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def slow(spec: str, z: list[float]) -> list[float]:
    """The hardened probabilities of one row, as the definition says, with loops and Python floats."""
    name, _, number = spec.partition(":")
    classes, label = range(len(z)), z.index(max(z))
    if name == "temperature":
        z = [v / float(number) for v in z]
    weights = [math.exp(v - max(z)) for v in z]
    p = [w / math.fsum(weights) for w in weights]
    if name == "temperature":
        return p
    if name == "label-only":
        return [float(j == label) for j in classes]
    if name == "topk":
        ranked = sorted(classes, key=lambda j: (-p[j], j != label))
        edge = p[ranked[int(number)]]
        kept = [j for j in classes if p[j] > edge or j == label]
        share = math.fsum(p[j] for j in classes if j not in kept) / (len(p) - len(kept))
        return [p[j] if j in kept else share for j in classes]
    steps = [round(v * 10 ** int(number)) for v in p]
    others = max(steps[j] for j in classes if j != label)
    if steps[label] <= others:
        steps[label] = others + 1
    return [n / sum(steps) for n in steps]


quarters = st.integers(-40, 40).map(lambda v: v / 4)
near_ties = st.sampled_from([1.0, float(np.nextafter(np.float32(1), 2)), float(np.nextafter(np.float32(1), 0))])
rows = st.integers(4, 12).flatmap(
    lambda k: st.lists(
        st.lists(quarters, min_size=k, max_size=k) | st.lists(near_ties | quarters, min_size=k, max_size=k),
        min_size=1,
        max_size=6,
    )
)
examined = settings(max_examples=40)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "round:6"])
@examined
@given(logits=st.integers(4, 12).flatmap(lambda k: st.lists(quarters, min_size=k, max_size=k)))
def test_softmax_of_the_scores_is_the_definition(spec: str, logits: list[float]) -> None:
    name, _, number = spec.partition(":")
    if name == "round":
        edges = softmax(np.array([logits]))[0] * 10 ** int(number)
        # Exact halves at equal logits are kept: both sides round them to even.
        if (abs(edges % 1 - 0.5) < 1e-4).any() and len(set(logits)) > 1:
            return
    np.testing.assert_allclose(softmax(scores(spec, [logits]))[0], slow(spec, logits), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "p", "expected"),
    [
        ("temperature:2", [0.64, 0.32, 0.04], [0.8, math.sqrt(0.32), 0.2]),
        ("round:1", [0.62, 0.27, 0.11], [0.6, 0.3, 0.1]),
        ("round:1", [0.27, 0.29, 0.26, 0.18], [0.3, 0.4, 0.3, 0.2]),
        ("round:1", [0.04] * 3 + [0.0401] + [0.04] * 21, [0.0] * 3 + [1.0] + [0.0] * 21),
        ("round:0", [0.4, 0.6, 0.0001], [0.0, 1.0, 0.0]),
        ("round:0", [0.5, 0.5], [1.0, 0.0]),
        ("topk:1", [0.2, 0.7, 0.08, 0.02], [0.1, 0.7, 0.1, 0.1]),
        ("topk:2", [0.2, 0.7, 0.08, 0.02], [0.2, 0.7, 0.05, 0.05]),
        ("topk:2", [0.1, 0.6, 0.1, 0.15, 0.05], [0.25 / 3, 0.6, 0.25 / 3, 0.15, 0.25 / 3]),
        ("topk:1", [0.1, 0.4, 0.4, 0.1], [0.2, 0.4, 0.2, 0.2]),
        ("topk:2", [0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]),
        ("label-only", [0.2, 0.35, 0.35, 0.1], [0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_examples_by_hand(spec: str, p: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(
        softmax(scores(spec, np.log([p])))[0], np.divide(expected, sum(expected)), rtol=1e-5, atol=2e-6
    )


@pytest.mark.parametrize("spec", SPECS)
@examined
@given(logits=rows)
def test_scores_are_finite_keep_the_label_and_turn_no_order_round(spec: str, logits: list[list[float]]) -> None:
    z = np.array(logits, np.float32)
    got = scores(spec, z)
    assert (got.shape, got.dtype) == (z.shape, np.float32)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(softmax(got).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(got.argmax(axis=1), z.argmax(axis=1))
    smaller = z[:, :, None] < z[:, None, :]
    assert (got[:, :, None] <= got[:, None, :])[smaller].all()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4, 1e30])
def test_scores_are_finite_and_keep_the_label_at_any_scale(spec: str, scale: float) -> None:
    z = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * np.float32(scale)
    got = scores(spec, z)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got.argmax(axis=1), z.argmax(axis=1))


@pytest.mark.parametrize("spec", SPECS)
@given(logits=rows, shift=st.integers(-100, 100))
@settings(examined, max_examples=20)
def test_a_constant_added_to_all_logits_does_not_show(spec: str, logits: list[list[float]], shift: int) -> None:
    z = np.round(np.array(logits) * 4) / 4  # so that the sum is exact
    np.testing.assert_array_equal(scores(spec, z + shift), scores(spec, z))


@pytest.mark.parametrize("digits", range(7))
def test_rounded_probabilities_have_that_many_digits(digits: int) -> None:
    z = np.random.default_rng(0).normal(size=(400, 10)) * 3
    steps = np.exp(scores(f"round:{digits}", z).astype(np.float64)) * 10**digits
    visible = steps[steps > 2 * ZERO * 10**digits]
    np.testing.assert_allclose(visible, np.round(visible), rtol=2e-6)
    assert visible.min() > 0.99


def test_the_label_is_all_that_label_only_tells() -> None:
    z = np.random.default_rng(0).normal(size=(500, 10)) * 5
    got = scores("label-only", z)
    for label in range(10):
        assert len(np.unique(got[z.argmax(axis=1) == label], axis=0)) == 1
    assert len(np.unique(got)) == 2
    assert (softmax(got).max(axis=1) > 0.999999).all()
    assert softmax(scores("label-only", np.zeros((1, 100_000)))).max() > 0.999999


@pytest.mark.parametrize("name", ["loss", "confidence", "modified_entropy"])
def test_attacks_on_label_only_are_the_gap_attack_ties_included(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=2 * 400)
    z = rng.normal(size=(800, 10))
    z[np.arange(800), labels] += np.repeat([2.0, 1.0], 400)
    got = scores("label-only", z).astype(np.float64)
    evidence = Evidence(got, labels)
    score, gap = ATTACKS[name].score(evidence), ATTACKS["gap"].score(evidence)
    np.testing.assert_array_equal(score > score.min(), gap == 1)
    assert len(np.unique(score)) == 2, "bit-equal for equal labels, so that ties are seen as ties"
    members, others = gap[:400].mean(), gap[400:].mean()
    assert auc(score[:400], score[400:]).value == pytest.approx(0.5 + (members - others) / 2, abs=1e-12)
    by_lot = members * 0.01 / others  # no threshold has so few false positives: a coin among those that tie
    assert tpr_at_fpr(score[:400], score[400:], fpr=0.01).value == pytest.approx(by_lot)
    np.testing.assert_array_equal(np.ptp(ATTACKS["entropy"].score(evidence)), 0)


BOTH = ("onnx", "torchscript-lite")
FILES = [
    ("onnx", "temperature:3", ExportOptions()),
    ("onnx", "round:1", ExportOptions()),
    ("onnx", "topk:2", ExportOptions(opset=MAX_OPSET)),
    ("onnx", "label-only", ExportOptions()),
    *(("torchscript-lite", spec, ExportOptions()) for spec in SPECS),
    *(("torchscript-lite", spec, ExportOptions(bytecode_version=4)) for spec in ("round:1", "topk:2")),
    *(
        (name, spec, ExportOptions())
        for name in INSTALLED
        if name not in ("onnx", "torchscript-lite")
        for spec in SPECS
    ),
]


@pytest.mark.parametrize(("name", "spec", "options"), FILES)
def test_a_file_gives_the_scores_at_any_batch_size(
    tmp_path: Path, name: str, spec: str, options: ExportOptions
) -> None:
    plain, x = Baked(network(), MEAN, STD).eval(), pixels(40)
    with torch.inference_mode():
        logits, expected = (model(torch.from_numpy(x)).numpy() for model in (plain, harden(plain, spec, 4)))
    target(name).write(harden(plain, spec, 4), SHAPE, tmp_path / "written", options)
    lint(tmp_path / "written")
    runtime = opened((tmp_path / "written").read_bytes(), tmp_path, name, preprocessing_baked=True)
    for size in (1, 2, 17, 40):
        got = runtime.predict(x, size)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)
        np.testing.assert_array_equal(got.argmax(axis=1), logits.argmax(axis=1))
    if name == "onnx":
        output = onnx.load(tmp_path / "written").graph.output[0]
        assert (output.name, output.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)


def test_none_leaves_the_model_alone() -> None:
    model = network()
    assert harden(model, NONE, 4) is model
    assert hardening(NONE) is head(NONE, 4) is None


def test_the_hardened_model_is_in_eval_mode_and_has_no_parameters_of_its_own() -> None:
    model = nn.Linear(3, 4).train()
    hardened = harden(model, "topk:2", 4)
    assert not any(module.training for module in hardened.modules())
    assert list(hardened.parameters()) == list(model.parameters())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "unknown hardening ''"),
        ("rounds:2", "did you mean 'round'.* choose from label-only, none, round, temperature, topk"),
        ("none:1", "unknown|takes no number"),
        ("Round:2", "unknown hardening"),
        ("round", r"write round:N with a whole number N in \[0, 6\]"),
        ("round:", "whole number"),
        ("round:7", "whole number"),
        ("round:-1", "whole number"),
        ("round:1.5", "whole number"),
        ("round:2:3", "whole number"),
        ("temperature:0", r"a number N in \[0.01, 1000\]"),
        ("temperature:-2", "a number"),
        ("temperature:nan", "a number"),
        ("temperature:inf", "a number"),
        ("topk:0", "whole number"),
        ("topk:two", "whole number"),
        ("label-only:1", "label-only takes no number; write label-only"),
        ("label-only:", "takes no number"),
    ],
)
def test_a_wrong_spec_says_the_rule(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hardening(spec)


@pytest.mark.parametrize(("classes", "k"), [(2, 1), (3, 2), (10, 9), (10, 10), (10, 500)])
def test_top_k_that_would_hide_nothing_is_refused(classes: int, k: int) -> None:
    with pytest.raises(UsageError, match=f"topk:{k} hides nothing of {classes} classes.* round or label-only"):
        head(f"topk:{k}", classes)
    if classes > 2:
        assert head(f"topk:{classes - 2}", classes) is not None


@pytest.mark.parametrize("name", HARDENINGS)
def test_every_kind_is_documented_where_the_artifact_is(name: str) -> None:
    text = (Path(__file__).parents[2] / "export" / "README.md").read_text("utf-8")
    assert f"`{name}" in text
