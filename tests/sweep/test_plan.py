"""A plan: all combinations, cases without the seed, every problem said at once, and no path in what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mobileprune.config import from_dict, nested
from mobileprune.errors import ConfigError
from mobileprune.sweep.plan import MAX_POINTS, plan, public, read

GRID = {
    "network": [{"model": "lenet5", "members": 100}, {"model": "resnet8", "members": 60}],
    "sparsity": [0.5, 0.9],
    "seed": [3, 4],
}


def test_points_are_all_combinations_and_cases_differ_in_more_than_the_seed() -> None:
    made = plan({"base": {"method": "magnitude", "train": {"epochs": 7}}, "grid": GRID})
    assert [point.id for point in made.points] == [f"p{n:03d}" for n in range(8)]
    assert [point.case for point in made.points] == ["c000", "c000", "c001", "c001", "c002", "c002", "c003", "c003"]
    assert [point.seed for point in made.points] == [3, 4] * 4
    options = {"method": "magnitude", "epochs": 7, "model": "resnet8", "members": 60, "sparsity": 0.5, "seed": 4}
    assert made.points[5].config == from_dict(nested(options))
    assert made.points[5].options == {"model": "resnet8", "members": 60, "sparsity": 0.5}


def test_without_a_seed_in_the_grid_there_is_that_of_the_base() -> None:
    made = plan({"base": {"seed": 5}, "grid": {"sparsity": [0.5]}})
    assert [(point.seed, point.config.seed) for point in made.points] == [(5, 5)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, r"\[grid\] is missing or empty"),
        ({"grid": {}}, r"\[grid\] is missing or empty"),
        ({"grid": 3}, "grid must be a table"),
        ({"grid": {"sparsity": 0.5}}, "grid sparsity: must be a list"),
        ({"grid": {"sparsity": []}}, "grid sparsity: must be a list"),
        ({"grid": {"sparsity": [0.5, 0.5]}}, "grid sparsity: a value is there twice"),
        ({"grid": {"sparsty": [0.5]}}, "grid sparsty: 'sparsty' is no option"),
        ({"grid": {"a": [{"sparsity": 0.5}, 3]}}, "grid a: values are either all tables or none is"),
        ({"grid": {"a": [{"sparsity": 0.5}], "sparsity": [0.9]}}, "grid sparsity: sparsity is on axis a too"),
        ({"base": {"sparsity": 0.5}, "grid": {"sparsity": [0.9]}}, r"sparsity is in \[base\] too"),
        ({"base": {"sparsty": 0.5}, "grid": {"seed": [0]}}, r"\[base\]: unknown option 'sparsty'"),
        ({"grid": {"sparsity": [1.0, 2.0]}}, r"--sparsity 1.0: must be in \[0, 1\); --sparsity 2.0"),
        ({"grid": {"seed": list(range(MAX_POINTS + 1))}}, "10,001 points, at most 10,000"),
        ({"grid": {"seed": [0]}, "limits": {"max_ac": 1}}, "unknown limit 'max_ac': did you mean 'max_auc'"),
        ({"grid": {"seed": [0]}, "limits": {"max_auc": 0.4}}, r"max_auc 0.4: must be in \[0.5, 1\]"),
        ({"grid": {"seed": [0]}, "limits": {"max_bytes": "x"}}, "max_bytes: 'x' is not a float"),
        ({"grid": {"seed": [0]}, "limits": {"max_bytes": 10**400}}, "max_bytes: a whole number beyond .* is too large"),
        ({"grid": {"seed": [10**400]}}, "--seed: a whole number beyond .* is too large"),
        ({"base": {"train": 5}, "grid": {"seed": [0]}}, r"\[base\]: train must be a section with its options, got '5'"),
        ({"base": {"train": "abc"}, "grid": {"seed": [0]}}, "train must be a section"),
        ({"base": {"train": [1]}, "grid": {"seed": [0]}}, "train must be a section"),
        ({"gird": {}}, "unknown entry 'gird'"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(values)


def test_several_problems_are_said_together_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[grid]\nsparsty = [1]\nseed = 3\n[limits]\nmax_auc = 2\n")
    with pytest.raises(ConfigError) as info:
        read(file)
    assert len(info.value.problems) == 3
    assert all(problem.startswith(f"{file}: ") for problem in info.value.problems)
    file.write_text("[grid")
    with pytest.raises(ConfigError, match=r"s\.toml: "):
        read(file)
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        read(tmp_path / "missing.toml")


def test_what_is_given_beside_the_file_wins_and_the_file_names_the_sweep(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[base.data]\ndataset = "npz:a.npz"\n[grid]\nseed = [0]\n')
    assert read(file).points[0].config.data.dataset == "npz:a.npz"
    made = read(file, dataset="npz:/private/b.npz")
    assert made.points[0].config.data.dataset == "npz:/private/b.npz"
    assert made.to_dict() == {"name": "mine", "base": {"dataset": "npz:b.npz"}, "grid": {"seed": [0]}}


def test_results_hold_no_paths_of_this_machine() -> None:
    own = {"dataset": "folder:/home/me/photos", "budget": "/home/me/b.toml", "checkpoint": "/w.pt", "data_dir": "/home"}
    assert public(own) == {"dataset": "folder:photos", "budget": "b.toml", "checkpoint": "w.pt"}
    assert public({"budget": "uniform", "sparsity": 0.5}) == {"budget": "uniform", "sparsity": 0.5}
    grid = {"budget": ["/home/me/a.toml", "erk"], "x": [{"dataset": "npz:/home/me/c.npz"}]}
    assert "/home" not in str(plan({"grid": grid}).to_dict())


def test_files_of_one_name_are_two_cases(tmp_path: Path) -> None:
    made = plan({"grid": {"budget": ["a/b.toml", "c/b.toml"]}})
    assert [(point.case, point.options) for point in made.points] == [
        ("c000", {"budget": "b.toml"}),
        ("c001", {"budget": "b.toml"}),
    ]
