"""Budgets: totals in exact fractions, Erdős–Rényi by bisection, a file of the user's line by line."""

from __future__ import annotations

import fnmatch
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pruning import network, space
from torch import Tensor

from mobileprune.errors import ConfigError, UsageError
from mobileprune.pruning.budgets import by_score, erk, from_globs, kept_total, read_file, uniform
from mobileprune.pruning.masks import prunable
from mobileprune.pruning.patterns import NOfM, Site, Weights

quick = settings(max_examples=80)
ratios = st.sampled_from([0.0, 0.001, 1 / 3, 0.5, 0.9, 0.999]) | st.floats(0, 1, exclude_max=True)
dense = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
places = st.lists(st.tuples(dense, st.booleans()), min_size=1, max_size=5)


def layers(shapes: list[tuple[tuple[int, ...], bool]]) -> list[Site]:
    """Some of which hold at most 1 of 2."""
    return [
        NOfM(f"l{i}", (shape[0], 2, *shape[1:]), 1, 2) if half else Weights(f"l{i}", shape)
        for i, (shape, half) in enumerate(shapes)
    ]


def total(sites: list[Site], ratio: float) -> int:
    count = sum(math.prod(site.shape) for site in sites)
    return min(count - round(ratio * count), sum(site.capacity for site in sites))


@quick
@given(shapes=st.lists(dense, min_size=1, max_size=5), ratio=ratios)
def test_the_total_is_the_nearest_whole_number_and_layers_share_it(shapes: list[tuple[int, ...]], ratio: float) -> None:
    sites = [Weights(str(i), shape) for i, shape in enumerate(shapes)]
    sizes = {site.name: math.prod(site.shape) for site in sites}
    kept, budget = kept_total(sites, ratio), uniform(sites, ratio)
    wanted = (1 - Fraction(ratio)) * sum(sizes.values())
    assert abs(kept - wanted) <= Fraction(1, 2) + Fraction(1, 10**12)
    share = Fraction(kept, sum(sizes.values()))
    assert sum(budget.values()) == kept
    assert all(abs(budget[name] - share * size) < 1 and 0 <= budget[name] <= size for name, size in sizes.items())


@pytest.mark.parametrize("budget", [uniform, erk])
@quick
@given(shapes=places, ratio=ratios)
def test_the_total_is_exact_and_no_layer_holds_more_than_its_pattern_allows(budget, shapes, ratio) -> None:
    sites = layers(shapes)
    if len({half for _, half in shapes}) > 1 and budget is uniform:
        sites = [site for site in sites if isinstance(site, NOfM)]  # one pattern at a time, as in a model
    kept = budget(sites, ratio)
    assert list(kept) == [site.name for site in sites]
    assert sum(kept.values()) == kept_total(sites, ratio) == total(sites, ratio)
    assert all(0 <= kept[site.name] <= site.capacity for site in sites)


def by_bisection(sites: list[Site], wanted: int) -> dict[str, float]:
    """Density in proportion to sum(shape) / prod(shape) and at most the capacity, for the one scale that fits."""
    need = {s.name: math.prod(s.shape) * sum(s.shape) / math.prod(s.shape) for s in sites}

    def at(scale: float) -> dict[str, float]:
        return {s.name: min(float(s.capacity), scale * need[s.name]) for s in sites}

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle).values()) < wanted else (low, middle)
    return at(high)


@quick
@given(shapes=places, ratio=ratios)
def test_erk_is_the_formula_capped_and_rounded(shapes, ratio) -> None:
    sites = layers(shapes)
    kept, expected = erk(sites, ratio), by_bisection(sites, total(sites, ratio))
    assert all(abs(kept[name] - value) < 1 + 1e-6 for name, value in expected.items()), (kept, expected)


def test_erk_by_hand() -> None:
    """Needs 2 + 5 = 7 and 8 + 8 + 3 + 3 = 22: of 100, 7/29 is more than the small layer has."""
    sites: list[Site] = [Weights("small", (2, 5)), Weights("large", (8, 8, 3, 3))]
    assert erk(sites, 1 - 100 / 586) == {"small": 10, "large": 90}
    assert erk(sites, 1 - 29 / 586) == {"small": 7, "large": 22}
    assert erk(sites, 0.0) == {"small": 10, "large": 576}


def largest_first(scores: dict[str, list[float]], count: int) -> dict[str, int]:
    """The largest over all, one of each first while there are enough."""
    flat = [(name, i, score) for name, values in scores.items() for i, score in enumerate(values)]
    first = {max(part, key=lambda x: x[2])[:2] for name in scores if (part := [x for x in flat if x[0] == name])}
    forced = first if count >= len(scores) else set()
    order = sorted(range(len(flat)), key=lambda k: (flat[k][:2] not in forced, -flat[k][2], k))[:count]
    return {name: sum(flat[k][0] == name for k in order) for name in scores}


@quick
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=5), ratios)
def test_a_global_budget_is_what_sorting_everything_gives(values: list[list[int]], ratio: float) -> None:
    sites: list[Site] = [Weights(str(i), (len(v),)) for i, v in enumerate(values)]
    scores = {str(i): torch.tensor(v, dtype=torch.float32) for i, v in enumerate(values)}
    kept = by_score(sites, scores, ratio)
    assert kept == largest_first({name: s.tolist() for name, s in scores.items()}, total(sites, ratio))
    assert [s.tolist() for s in scores.values()] == [[float(x) for x in v] for v in values], "scores stay as they are"


def counts(scores: dict[str, Tensor], ratio: float) -> list[int]:
    return list(by_score([Weights(name, tuple(s.shape)) for name, s in scores.items()], scores, ratio).values())


def test_a_global_budget_keeps_a_weight_of_every_layer_while_it_can() -> None:
    scores = {"small": torch.full((4,), 1e-6), "zero": torch.zeros(3), "large": torch.arange(1.0, 94.0)}
    assert counts(scores, 0.97) == [1, 1, 1]
    assert counts(scores, 0.98) == [0, 0, 2]


def file(folder: Path, text: str) -> Path:
    (folder / "b.toml").write_text(text, encoding="utf-8")
    return folder / "b.toml"


def test_of_the_globs_of_a_file_the_first_that_matches_counts(tmp_path: Path) -> None:
    path = file(tmp_path, '"0.*" = 0.25\n"[03].weight" = 0.5\n')
    model = network()
    found = space(model, budget=str(path), sparsity=0.75)
    sizes = {name: w.numel() for name, w in prunable(model).items()}
    kept = {name: int(mask.sum()) for name, mask in found.project(prunable(model)).items()}
    assert sizes == {"0.weight": 36, "3.weight": 216, "8.weight": 288}
    assert kept == {"0.weight": 36 - 9, "3.weight": 216 - 108, "8.weight": 288 - 216}


@quick
@given(
    st.lists(st.tuples(st.sampled_from(["*", "l*", "l0", "l[12]", "?3"]), st.floats(0, 0.99)), max_size=4),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_a_file_gives_what_a_loop_over_its_lines_gives(lines, final: float, way: float) -> None:
    sites = layers([((3, 5), False), ((7,), False), ((4, 2), True), ((9, 2), False)])
    globs = dict(lines)
    kept = from_globs(sites, final, globs, way)
    for site in sites:
        drop = final * way
        for glob, own in globs.items():
            if fnmatch.fnmatchcase(site.name, glob):
                drop = own * way
                break
        assert kept[site.name] == min(site.capacity, site.units - round(drop * site.units))


def test_all_layers_of_a_file_move_with_a_schedule(tmp_path: Path) -> None:
    model = network()
    found = space(model, budget=str(file(tmp_path, '"8.weight" = 0.5\n"3.weight" = 0.0\n')), sparsity=0.8)
    for done in (0.0, 0.25, 0.5, 1.0):
        masks = found.project(prunable(model), done)
        dropped = {name: int((~mask).sum()) for name, mask in masks.items()}
        assert dropped == {"0.weight": round(0.8 * done * 36), "3.weight": 0, "8.weight": round(0.5 * done * 288)}


def test_a_glob_that_matches_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    found = space(network(), budget=str(file(tmp_path, '"fc*" = 0.5\n"8.*" = 0.5\n"conv*" = 0.1\n')))
    with pytest.raises(UsageError) as refused:
        found.project(prunable(network()))
    assert "fc*, conv* matches nothing" in str(refused.value)
    assert "0.weight, 3.weight, 8.weight" in str(refused.value)


def test_every_wrong_line_of_a_file_is_named(tmp_path: Path) -> None:
    path = file(
        tmp_path, 'a = 1.0\nb = -0.1\nc = "0.5"\nd = true\ne = nan\nf = 0.5\ng = 0\ni = false\n[h]\nweight = 0.5\n'
    )
    with pytest.raises(ConfigError) as refused:
        read_file(path)
    wrong = ["a = 1.0", "b = -0.1", "c = '0.5'", "d = True", "e = nan", "i = False", "h = {'weight': 0.5}"]
    assert refused.value.problems == [
        f"--budget {path}: {line} must be a number in [0, 1); names with dots need quotes" for line in wrong
    ]


@pytest.mark.parametrize("raw", [None, b"a = ", b"a = 0.1\na = 0.2", b"\xff"])
def test_a_file_that_is_no_toml_is_refused_with_the_choices(tmp_path: Path, raw: bytes | None) -> None:
    if raw is not None:
        (tmp_path / "b.toml").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"--budget .*b\.toml: .*choose from uniform, global, erk, or a TOML file"):
        read_file(tmp_path / "b.toml")


def test_an_empty_file_is_a_uniform_budget(tmp_path: Path) -> None:
    model = network()
    masks = space(model, budget=str(file(tmp_path, "")), sparsity=0.77).project(prunable(model))
    expected = space(model, budget="uniform", sparsity=0.77).project(prunable(model))
    assert all(torch.equal(mask, expected[name]) for name, mask in masks.items())
