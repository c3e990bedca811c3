"""Shells are told which names an option takes: those of the registries, without the second that torch costs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable

import pytest

from mobileprune.cli.completion import OFFERED, keys, with_completers
from mobileprune.cli.parser import parser
from mobileprune.convert.harden import HARDENINGS
from mobileprune.data import DATASETS, PREFIXES
from mobileprune.defenses import DEFENSES, parse
from mobileprune.devices import DEVICES, kind_of
from mobileprune.devices.profiles import PROFILES
from mobileprune.export import TARGETS
from mobileprune.foreign.answers import KINDS
from mobileprune.models import FAMILIES, MODELS
from mobileprune.pruning import METHODS
from mobileprune.pruning.budgets import SHARED
from mobileprune.pruning.patterns import NAMED, sites
from mobileprune.tracking import LOGGERS

WITHOUT = (
    "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'scipy'])); from mobileprune.cli.main import main"
)
REGISTRIES: dict[str, Iterable[str]] = {
    "budget": SHARED,
    "dataset": [*DATASETS, *(f"{kind}:" for kind in PREFIXES)],
    "defense": ["none", *DEFENSES],
    "harden": ["none", *HARDENINGS],
    "kind": KINDS,
    "log": LOGGERS,
    "method": METHODS,
    "model": [*MODELS, *FAMILIES],
    "sparse_format": {form: None for target in TARGETS.values() for form in ("auto", *target.forms)},
    "target": TARGETS,
    "train_defense": ["none", *DEFENSES],
}


@pytest.mark.parametrize("dest", REGISTRIES)
def test_what_is_offered_is_what_there_is(dest: str) -> None:
    assert sorted(OFFERED[dest]()) == sorted(REGISTRIES[dest])


def test_of_what_is_open_examples_are_offered() -> None:
    assert set(NAMED) < set(OFFERED["pattern"]())
    assert all(sites(spec) for spec in OFFERED["pattern"]())
    assert {kind_of(name) for name in OFFERED["device"]()} == set(DEVICES)
    assert {name for name in OFFERED["device"]() if name.startswith("qemu")} == {f"qemu:{cpu}" for cpu in PROFILES}
    assert set(REGISTRIES) | {"pattern", "device"} == set(OFFERED)
    assert all(parse(name) for name in OFFERED["defense"]() if name != "none")


def test_a_registry_that_is_gone_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"config\.py has no NOTHING"):
        keys("config.py", "NOTHING")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mobileprune exp", {"export", "explain"}),
        ("mobileprune export --spars", {"--sparsity", "--sparse-format"}),
        ("mobileprune export --precision ", {"fp32", "fp16", "int8"}),
        ("mobileprune export --target ", set(TARGETS)),
        ("mobileprune train --model res", {"resnet8", "resnet18", "resnet20"}),
        ("mobileprune train --model torch", {"torchvision:"}),
        ("mobileprune prune --defense early-stopping:5+min", {"5+minmax"}),  # bash cuts words at colons
        ("mobileprune audit out --device qemu:", {"cortex-a53", "cortex-a76"}),
        ("mobileprune devices doctor lo", {"local"}),
        ("mobileprune devices do", {"doctor"}),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on PATH")
def test_shells_are_told_what_may_come_next(line: str, expected: set[str]) -> None:
    """As the function does that `register-python-argcomplete mobileprune` defines."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    env = os.environ | asked | {"_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:"}
    with tempfile.TemporaryFile() as answer:
        command = (
            f"exec 8>&{answer.fileno()} 9>/dev/null; exec {shlex.join([sys.executable, '-c', f'{WITHOUT}; main()'])}"
        )
        subprocess.run(["bash", "-c", command], env=env, pass_fds=[answer.fileno()], check=True, capture_output=True)
        answer.seek(0)
        assert {word.strip() for word in answer.read().decode().splitlines()} == expected


def test_a_verb_that_runs_only_the_users_own_model_offers_none_of_ours() -> None:
    """What `audit --model` names is code that is run; the models of mobileprune need no leave."""
    top = with_completers(parser())
    (chosen,) = (action for action in top._actions if hasattr(action, "choices") and isinstance(action.choices, dict))
    offering = {verb: [a.dest for a in sub._actions if hasattr(a, "completer")] for verb, sub in chosen.choices.items()}
    assert "model" in offering["export"]
    assert "model" not in offering["audit"]
    assert "device" in offering["audit"]
