"""The command line offers all that the configuration has, says what it is, and keeps the conventions."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, fields

import pytest

from mobileprune import defenses, errors
from mobileprune.audit.verdict import EXIT_CODES as VERDICT_CODES
from mobileprune.audit.verdict import Policy
from mobileprune.cli.flags import OF_ENGINES, Group
from mobileprune.cli.grammar import ATTACKER, EFFORT, JUDGED, MAKES, NOT_OURS, POLICY, VERBS
from mobileprune.cli.parser import EXIT_CODES, options_from, parser
from mobileprune.config import SECTIONS, Config, Effort, from_dict, nested, read_toml, to_toml
from mobileprune.data import DATASETS, PREFIXES
from mobileprune.errors import UsageError
from mobileprune.export import TARGETS
from mobileprune.models import MODELS, build
from mobileprune.option import flag
from mobileprune.pruning import METHODS, budgets, method
from mobileprune.pruning.patterns import NAMED, sites

FIELDS = [(section, item) for section, owner in SECTIONS.items() for item in fields(owner)]


def parser_of(verb: str) -> argparse.ArgumentParser:
    (chosen,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return chosen.choices[verb]


def taking(group: Group) -> set[str]:
    return {name for name, verb in VERBS.items() if group in verb.groups}


def action(verb: str, option: str) -> argparse.Action | None:
    return parser_of(verb)._option_string_actions.get(option)


@pytest.mark.parametrize(("section", "item"), FIELDS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_field_has_a_flag_with_help_on_every_verb_that_makes_something(section, item) -> None:
    (group,) = (group for group in MAKES if group.title == section)
    takers = taking(group)
    assert takers
    for verb in takers:
        found = action(verb, flag(item.name))
        assert found is not None, f"{verb} {flag(item.name)}"
        assert item.metadata["help"].replace("%", "%%") in found.help
        assert found.dest == item.name
        if item.default is not None and not isinstance(item.default, bool):
            assert f"(default: {item.default})" in found.help
        assert tuple(found.choices or ()) == item.metadata["choices"]


@pytest.mark.parametrize("item", fields(Effort), ids=lambda item: item.name)
def test_every_field_of_the_effort_has_a_flag_on_every_verb_that_attacks(item) -> None:
    takers = {*taking(EFFORT), *taking(ATTACKER)} | ({"sweep"} if item.name != "versions" else set())
    for verb in VERBS:
        found = action(verb, flag(item.name))
        assert (found is not None) == (verb in takers), verb
        if found is not None and item.name != "versions" and not (verb == "sweep" and item.name in OF_ENGINES):
            shown = "" if item.default is None else f" (default: {item.default})"
            assert f"{item.metadata['help']}{shown}" == found.help
            assert tuple(found.choices or ()) == item.metadata["choices"]


def test_verbs_that_judge_attack_too_and_those_for_any_model_take_none() -> None:
    any_model = taking(NOT_OURS)
    assert any_model <= taking(ATTACKER)
    assert taking(JUDGED) <= taking(ATTACKER) | taking(EFFORT)
    for verb in any_model:
        assert parser().parse_args([verb, "--outputs", "t.csv"]).artifact is None


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["audit", "x", "--polcy", "p.toml"], "--policy"),
        (["attack", "--predictt", "a:b"], "--predict"),
        (["attack", "x", "--refrences", "4"], "--references"),
        (["audit", "x", "--max-uac", "0.5"], "--max-auc"),
        (["train", "--outptu", "x"], "--output"),
        (["exprot"], "export"),
    ],
)
def test_a_misspelt_flag_is_suggested(argv, near) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        parser().parse_args(argv)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["audit", "x", "--config", "c.toml"], "--config c.toml; audit has no --config; see mobileprune audit --help"),
        (["bench", "x", "--policy=p.toml"], "--policy=p.toml; bench has no --policy; see mobileprune bench --help"),
        (["audit", "x", "y"], "unrecognized arguments: y; see mobileprune audit --help"),
        (["audit", "x", "--save-confg", "c.toml"], "--save-confg c.toml; see"),
    ],
)
def test_what_only_other_verbs_take_is_not_suggested(argv, said) -> None:
    with pytest.raises(UsageError) as refused:
        parser().parse_args(argv)
    assert said in str(refused.value)
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_every_verb_is_explained_and_spelled_alike(verb) -> None:
    for found in parser_of(verb)._actions:
        assert found.help, found
        for option in found.option_strings:
            assert re.fullmatch(r"-[a-z]|--[a-z]+(-[a-z]+)*", option)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_is_complete(verb, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([verb, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert EXIT_CODES in shown
    assert " ".join(VERBS[verb].help.split()) in " ".join(shown.split())
    assert "--json" in shown


def test_top_help_names_every_verb_and_its_meaning() -> None:
    shown = " ".join(parser().format_help().split())
    for name, verb in VERBS.items():
        assert f"{name} {verb.help}" in shown


def test_help_lists_what_the_registries_hold() -> None:
    """A list of allowed values that is written by hand goes stale; this one is held against the registries."""
    registries = {
        "--dataset": [*DATASETS, *(f"{prefix}:PATH" for prefix in PREFIXES)],
        "--target": TARGETS,
        "--budget": budgets.SHARED,
        "--pattern": NAMED,
    }
    for option, names in registries.items():
        assert [name for name in names if name not in words_of(option)] == [], option


def test_examples_in_help_are_what_the_registries_know() -> None:
    """Where help names some of many, those must be there, and a wrong name must list them all."""
    assert set(words_of("--method")[: words_of("--method").index("...")]) < set(METHODS)
    with pytest.raises(UsageError) as refused:
        method("?")
    assert all(name in str(refused.value) for name in METHODS)
    with pytest.raises(UsageError) as refused:
        build("?", num_classes=2, input_shape=(1, 8, 8), seed=0)
    assert all(name in str(refused.value) for name in MODELS)
    for option in ("--defense", "--train-defense"):
        examples = [word for word in words_of(option) if ":" in word]
        assert examples, option
        assert all(defenses.parse(example) for example in examples)
    examples = [word for word in words_of("--pattern") if ":" in word]
    assert len(examples) == 2
    assert all(sites(example) for example in examples)


def words_of(option: str) -> list[str]:
    return re.split(r"[\s,()]+", action("export", option).help.partition(" (default")[0])


def test_exit_codes_are_those_of_the_errors_and_of_the_verdict() -> None:
    documented = {int(code) for code in re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)}
    family = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.MobilepruneError)]
    assert documented == {0, 130, 143, *(e.exit_code for e in family), *VERDICT_CODES.values()}


@pytest.mark.parametrize("verb", VERBS)
def test_only_what_is_given_becomes_an_option(verb) -> None:
    """So that a default of the command line never overrides ``--config`` or what a model was made from."""
    paths = {"train": 0, "prune": 0, "export": 0, "devices": 0, "compare": 2}.get(verb, 1)
    argv = [verb, *["out"] * paths]
    assert options_from(parser().parse_args(argv)) == {}


def test_flags_win_over_the_configuration_file(tmp_path) -> None:
    (tmp_path / "c.toml").write_text('seed = 4\n[prune]\nsparsity = 0.5\ndefense = "ppb"\n')
    argv = ["prune", "--config", str(tmp_path / "c.toml"), "--defense", "minmax:2", "--sparsity", "0.7"]
    assert options_from(parser().parse_args(argv)) == {"seed": 4, "sparsity": 0.7, "defense": "minmax:2"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dataset": 'npz:a "b" \\ c.npz', "data_dir": "d", "members": 30, "canaries": 0.0},
        {"bake_preprocessing": True, "bytecode_version": 7, "lr": 1e-05, "atol": 0.0, "seed": 9},
        {"defense": "minmax:0.1+ppb", "keep_dense": "first-last", "budget": "global", "checkpoint": "ä/w.pt"},
    ],
    ids=str,
)
def test_a_configuration_comes_back_from_its_file(tmp_path, options) -> None:
    config = from_dict(nested(options))
    (tmp_path / "c.toml").write_text(to_toml(config.to_dict()), encoding="utf-8")
    assert from_dict(read_toml(tmp_path / "c.toml")) == config
    assert (config == Config()) == (options == {})


def test_a_flag_is_never_guessed_from_its_beginning() -> None:
    """Else a flag that is added later changes what a script meant."""
    with pytest.raises(UsageError):
        parser().parse_args(["export", "--spars", "0.5"])


def test_the_policy_that_help_shows_is_the_audits() -> None:
    """Help must not import the audit (it imports numpy), so the defaults stand in both places."""
    shown = {name.removeprefix("--").replace("-", "_"): default for name, (default, _) in POLICY.items()}
    assert shown == asdict(Policy())
