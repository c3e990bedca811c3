"""Parity of outputs that jump: harmless noise passes at every edge, and a wrong file is caught at every edge."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from support.runtimes import SHAPE, network, opened, pixels

from mobileprune.convert.harden import harden, head
from mobileprune.errors import ParityError
from mobileprune.export import ExportOptions, target
from mobileprune.export.parity import Tolerances, hardened_parity, nudges, parity
from mobileprune.schemas import problems

ATOL = 1e-4
STEPPED = ("round:0", "round:1", "round:3", "round:6", "topk:1", "topk:3", "label-only")
Array = NDArray[np.float64]


def scores(spec: str, z: Array) -> Array:
    found = head(spec, z.shape[1])
    return z if found is None else found(torch.from_numpy(z.astype(np.float32))).numpy().astype(np.float64)


def checked(exported: Array, z: Array, spec: str, atol: float = ATOL) -> dict[str, float]:
    found = hardened_parity(exported, z, head(spec, z.shape[1]), Tolerances(atol, 0.0))
    assert problems(found, "parity") == []
    return found


def ordinary(count: int = 2000, classes: int = 10) -> Array:
    return np.random.default_rng(0).normal(size=(count, classes)).astype(np.float32).astype(np.float64) * 3


def at_the_edge(spec: str, count: int = 300, classes: int = 8) -> Array:
    """Logits at which float32 cannot tell on which side of a step of ``spec`` they lie."""
    z = np.random.default_rng(1).normal(size=(count, classes))
    name, _, number = spec.partition(":")
    if spec == "round:6":
        z[:, 0] -= 8  # where a step is a large part of the probability
    if name == "round" and number != "0":
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        scale = 10 ** int(number)
        edge = np.clip((np.floor(p[:, 0] * scale) + 0.5) / scale, 0.5 / scale, 1 - 0.5 / scale)
        z[:, 0] += np.log(edge / (1 - edge)) - np.log(p[:, 0] / (1 - p[:, 0]))
    else:
        rank = int(number) if name == "topk" else 1
        order = np.argsort(-z, axis=1)
        rows = np.arange(count)
        z[rows, order[:, rank]] = z[rows, order[:, rank - 1]]
        z[rows, order[:, rank - 1]] += np.where(rows % 2, 1e-7, -1e-7)
    return z.astype(np.float32).astype(np.float64)


def noise(z: Array, size: float, seed: int = 2) -> Array:
    return z + np.random.default_rng(seed).uniform(-size, size, z.shape)


@pytest.mark.parametrize("spec", STEPPED)
def test_noise_of_another_runtime_passes_at_every_edge(spec: str) -> None:
    z = at_the_edge(spec)
    for seed in range(5):
        exported = scores(spec, noise(z, 3e-6, seed))
        assert checked(exported, z, spec)["unstable"] > 0.7 * len(z)
    with pytest.raises(ParityError):
        parity(scores(spec, noise(z, 3e-6)), scores(spec, z), Tolerances(ATOL, 0.0))


@pytest.mark.parametrize("spec", ["none", "temperature:2", *STEPPED])
def test_noise_passes_on_ordinary_logits_of_which_few_are_unstable(spec: str) -> None:
    z = ordinary()
    found = checked(scores(spec, noise(z, 1e-5)), z, spec)
    if spec in ("none", "temperature:2"):
        assert found["unstable"] == 0
    elif spec not in ("round:3", "round:6"):
        assert found["unstable"] < 0.02 * len(z)
    assert found["top1_agreement"] >= 0.999


SAME_LABEL = ("another temperature", "hardened twice")
WRONG = {
    "another temperature": lambda spec, z: scores(spec, z * 1.02),
    "one class shifted": lambda spec, z: scores(spec, z + 0.02 * (np.arange(z.shape[1]) == 3)),
    "noise of 1 %": lambda spec, z: scores(spec, noise(z, 0.02)),
    "classes rolled": lambda spec, z: scores(spec, np.roll(z, 1, axis=1)),
    "not hardened": lambda spec, z: z,
    "hardened twice": lambda spec, z: scores("round:1", scores("round:2", scores(spec, z)) * 0.9),
    "one row wrong": lambda spec, z: scores(spec, np.concatenate([z[:1] + np.eye(1, z.shape[1]) * 9, z[1:]])),
}


@pytest.mark.parametrize("spec", STEPPED)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_caught(spec: str, wrong: str) -> None:
    z = ordinary()
    z[0, 0] = z[0].min() - 1
    exported = WRONG[wrong](spec, z)
    if spec in ("round:0", "label-only") and wrong in SAME_LABEL:  # then it is not wrong
        assert checked(exported, z, spec)["unstable"] < 5
        return
    with pytest.raises(ParityError, match="differs from the PyTorch model"):
        checked(exported, z, spec)


@pytest.mark.parametrize(
    ("spec", "other"), [("round:1", "round:0"), ("round:1", "round:2"), ("topk:1", "topk:3"), ("topk:3", "label-only")]
)
def test_another_hardening_is_caught_even_where_every_input_lies_at_an_edge(spec: str, other: str) -> None:
    z = at_the_edge(spec)
    with pytest.raises(ParityError):
        checked(scores(other, z), z, spec)


def test_an_unstable_input_is_still_held_against_both_sides() -> None:
    z = at_the_edge("round:1")
    exported = scores("round:1", z)
    assert checked(exported, z, "round:1")["unstable"] > 0.7 * len(z)
    for change, row, column in itertools.product((3e-4, -3e-4, 0.5, -0.5), range(3), range(8)):
        broken = exported.copy()
        broken[row, column] += change
        with pytest.raises(ParityError):
            checked(broken, z, "round:1")


@pytest.mark.parametrize("classes", [2, 3, 10, 17])
def test_nudges_move_every_two_classes_apart_both_ways_within_the_tolerance(classes: int) -> None:
    z = np.random.default_rng(0).normal(size=(2, classes))
    moved = [found - z for found in nudges(z, np.full((len(z), 1), ATOL))]
    assert len(moved) <= 2 + 2 * math.ceil(math.log2(classes))
    assert np.abs(moved).max() <= ATOL / 4 + 1e-12
    for a, b in itertools.permutations(range(classes), 2):
        assert any((m[:, a] - m[:, b] > ATOL / 4).all() for m in moved)


def test_nudges_make_ties_of_near_ties() -> None:
    a = np.linspace(-1, 1, 997)
    tied = [found[:, 0] == found[:, 1] for found in nudges(np.stack([a, a + 1e-6], axis=1), np.full((len(a), 1), ATOL))]
    assert np.any(tied, axis=0).all()
    assert not [*nudges(np.zeros((1, 1)), np.zeros((1, 1)))]


def test_nudged_outputs_are_accepted_only_in_rows_that_jump() -> None:
    source = np.zeros((3, 2))
    nudged = [np.array([[0.0, 0.5], [5e-5, 0.0], [0.0, 0.0]]), np.array([[0.0, -0.25], [0.0, -5e-5], [0.0, 0.0]])]
    found = parity(np.array([[0.0, 0.5], [5e-5, 0.0], [0.0, 0.0]]), source, Tolerances(ATOL, 0.0), nudged=iter(nudged))
    assert (found["unstable"], found["max_difference"]) == (1, 5e-5)
    for row, wrong in {0: [0.0, 0.25], 1: [1.3e-4, 0.0], 2: [0.0, 0.5]}.items():
        exported = source.copy()
        exported[row] = wrong
        with pytest.raises(ParityError):
            parity(exported, source, Tolerances(ATOL, 0.0), nudged=iter(nudged))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1])
def test_what_is_not_finite_never_passes(wrong: float, row: int) -> None:
    source, exported = np.zeros((2, 2)), np.zeros((2, 2))
    exported[row, 1] = wrong
    with pytest.raises(ParityError):
        parity(exported, source, Tolerances(ATOL, 0.0), nudged=[np.array([[0.0, 9.0], [0.0, 0.0]])])


def test_a_graph_that_rounds_down_is_caught_through_the_runtime(tmp_path: Path) -> None:
    """The real file of a real network, and the same file with one operator changed."""
    model, x = network(), pixels(400)
    target("onnx").write(harden(model, "round:2", 4), SHAPE, tmp_path / "m.onnx", ExportOptions())
    proto = onnx.load(tmp_path / "m.onnx")
    with torch.inference_mode():
        logits = model(torch.from_numpy(x)).numpy().astype(np.float64)
    options = {"preprocessing_baked": True}

    def answers() -> Array:
        return opened(proto.SerializeToString(), tmp_path, "onnx", **options).predict(x).astype(np.float64)

    assert checked(answers(), logits, "round:2")["unstable"] < 40
    (node,) = (n for n in proto.graph.node if n.op_type == "Round")
    node.op_type = "Floor"
    with pytest.raises(ParityError):
        checked(answers(), logits, "round:2")
