"""What is said of attacks that were not run leads to options that run them."""

from __future__ import annotations

import pytest

from mobileprune.attacks import ATTACKS
from mobileprune.attacks.queries import VARIANTS
from mobileprune.cli.parser import parser
from mobileprune.config import Effort
from mobileprune.report.words import OPTIONS, not_tried, would_run

PLAIN = Effort().to_dict()
GIVEN_BY_OPTIONS = {*VARIANTS, "references", "versions", "gradients"}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_lacks_something_is_run_with_the_options_named(name: str) -> None:
    options = would_run(name, PLAIN)
    assert bool(options) == bool(GIVEN_BY_OPTIONS & {*ATTACKS[name].needs})
    given = vars(parser().parse_args(["audit", "out", *options.split()]))
    tried = Effort(**{key: value for key, value in given.items() if key in PLAIN}).to_dict()
    assert would_run(name, tried) == "", "and with them it lacks none"


def test_options_that_were_given_are_not_asked_for_again() -> None:
    assert would_run("samia", PLAIN) == "--references 16 --queries 20"
    assert would_run("samia", PLAIN | {"references": 4}) == "--queries 20"
    assert would_run("gradient_norm", PLAIN | {"access": "file"}) == ""


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("file", "sensitivity", "--queries 20"),
        ("function", "augmentations", "--queries 20"),
        ("function", "samia", ""),
        ("file", "gradient_norm", ""),
        ("table", "sensitivity", ""),
    ],
)
def test_a_model_that_is_no_artifact_is_told_what_it_can_take(kind: str, name: str, options: str) -> None:
    assert would_run(name, PLAIN, kind) == options


def test_the_report_names_the_same_options() -> None:
    for (_, full), option in zip(not_tried(PLAIN), OPTIONS.values(), strict=True):
        assert full.endswith(f": {option}")
