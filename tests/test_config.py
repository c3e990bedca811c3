"""Configuration: every rule of every option, all problems at once, and TOML that reads back as it was."""

from __future__ import annotations

import math
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobileprune.config import (
    OWNERS,
    SECTIONS,
    Config,
    flat,
    from_dict,
    nested,
    read_toml,
    to_toml,
)
from mobileprune.errors import ConfigError, UsageError
from mobileprune.option import flag, value_type

OPTIONS = [
    (owner, item) for owner in (*SECTIONS.values(), Config) for item in fields(owner) if item.name not in SECTIONS
]

reproducible = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def config(**options: Any) -> Config:
    return from_dict(nested(options))


def values(item: Any, kind: type[Any]) -> st.SearchStrategy[Any]:
    """Anything the rule of an option allows."""
    rule = item.metadata
    if rule["choices"]:
        return st.sampled_from(rule["choices"])
    if kind is float:
        high = rule["below"] if rule["below"] is not None else rule["high"]
        return st.floats(rule["low"], 1e9 if high is None else high, exclude_max=rule["below"] is not None)
    if kind is int:
        return st.integers(rule["low"], 10**12 if rule["high"] is None else rule["high"])
    return st.booleans() if kind is bool else st.text(st.characters(exclude_categories=["Cs"]))


valid = st.fixed_dictionaries(
    {},
    optional={
        item.name: values(item, value_type(owner, item)) | (st.none() if item.default is None else st.nothing())
        for owner, item in OPTIONS
    },
)


@reproducible
@given(valid)
def test_toml_round_trip(options: dict[str, Any]) -> None:
    made = config(**options)
    assert from_dict(tomllib.loads(to_toml(made.to_dict()))) == made
    assert from_dict(made.to_dict()) == made


@reproducible
@given(valid)
def test_nested_and_flat_are_inverse(options: dict[str, Any]) -> None:
    assert flat(nested(options)) == options
    assert nested(flat(nested(options))) == nested(options)


def test_option_names_are_unique_and_flags_are_kebab_case() -> None:
    names = [item.name for _, item in OPTIONS]
    assert len(set(names)) == len(names) == len(OWNERS) + 1
    assert {flag(n) for n in ("prune_epochs", "batch_size", "seed")} == {"--prune-epochs", "--batch-size", "--seed"}
    assert len({flag(n) for n in names}) == len(names)


@pytest.mark.parametrize(("owner", "item"), OPTIONS, ids=[item.name for _, item in OPTIONS])
def test_every_option_has_help_and_checks_type_and_range(owner: type[Any], item: Any) -> None:
    rule, kind = item.metadata, value_type(owner, item)
    assert rule["help"]
    assert kind in (str, int, float, bool)
    assert config(**{item.name: item.default}) == Config()
    bad: list[Any] = [[], {}, "1" if kind is not str else 1, b"x"]
    bad += [True] if kind is not bool else [1]
    bad += [1.0, math.nan] if kind is int else []
    bad += [None] if item.default is not None else []
    bad += ["no such choice"] if rule["choices"] else []
    if kind is float:
        bad += [math.nan, math.inf, -math.inf]
    for bound, step in ((rule["low"], -1), (rule["high"], 1)):
        if bound is not None:
            assert config(**{item.name: kind(bound)}).to_dict()
            bad.append(bound + step if kind is int else math.nextafter(bound, step * math.inf))
    bad += [rule["below"]] if rule["below"] is not None else []
    for value in bad:
        with pytest.raises(ConfigError, match=f"^{flag(item.name)}"):
            config(**{item.name: value})


def test_an_integer_is_a_float() -> None:
    assert config(lr=1, sparsity=0).to_dict()["train"]["lr"] == 1


def test_messages_give_option_value_and_rule() -> None:
    for options, message in [
        ({"sparsity": 1.0}, r"--sparsity 1\.0: must be in \[0, 1\)"),
        ({"canaries": 0.6}, r"--canaries 0\.6: must be in \[0, 0\.5\]"),
        ({"epochs": 0}, "--epochs 0: must be at least 1"),
        ({"channel_ratio": "x"}, "--channel-ratio: 'x' is not a float"),
        ({"norm": "layer"}, "--norm 'layer': choose from batch, group"),
    ]:
        with pytest.raises(ConfigError, match=f"^{message}$"):
            config(**options)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config(sparsity=math.nan, epochs=0, norm="layer", seed=-1, members="many")
    assert len(caught.value.problems) == 5
    assert caught.value.exit_code == 2


def test_unknown_names_are_reported_together_with_wrong_values() -> None:
    wrong = {"trian": {}, "train": {"epoch": 3, "epochs": 0}, "data": 7, "prune": {"sparsity": 2}}
    with pytest.raises(ConfigError) as caught:
        from_dict(wrong)
    text = str(caught.value)
    assert all(
        part in text for part in ("[trian]", "'epoch'", "data must be a section", "choose from augment, batch_size")
    )
    assert "--epochs 0" in text
    assert "--sparsity 2" in text


def test_numbers_that_no_other_program_reads_are_too_large() -> None:
    for options in ({"seed": 10**400}, {"epochs": 2**63 + 1}, {"lr": 10**400}, {"members": 10**19}):
        with pytest.raises(ConfigError, match="is too large"):
            config(**options)


def test_a_file_nested_too_deeply_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match=r"--config .*c\.toml"):
        read_toml(tmp_path / "c.toml")


def test_unknown_options_suggest_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown option 'sparcity': did you mean 'sparsity'"):
        nested({"sparcity": 0.5})


def test_a_redraw_is_trained_from_a_seed_of_its_own() -> None:
    assert [config(seed=seed).training_seed for seed in (0, 7)] == [0, 7]
    found = [config(seed=seed, redraw=redraw).training_seed for seed in range(5) for redraw in range(9)]
    assert len({*found, *range(5)}) == len(found) + 5
    assert config(seed=3, redraw=2).training_seed == config(seed=3, redraw=2, epochs=1).training_seed
    assert "training_seed" not in config(redraw=2).to_dict()


def test_values_are_laid_over_a_base() -> None:
    base = config(sparsity=0.5, epochs=3, seed=4)
    laid = from_dict({"train": {"epochs": 9}}, base)
    assert laid == replace(base, train=replace(base.train, epochs=9))
    assert from_dict({}, base) == base


@pytest.mark.parametrize("raw", [None, b"seed = ", b"seed = 1\nseed = 2", b"\xff", b"[data"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, raw: bytes | None) -> None:
    if raw is not None:
        (tmp_path / "c.toml").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"--config .*c\.toml"):
        read_toml(tmp_path / "c.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('seed = 3\n[data]\ndataset = "folder:/tmp/bilder-é"\n', encoding="utf-8")
    assert from_dict(read_toml(tmp_path / "c.toml")) == config(seed=3, dataset="folder:/tmp/bilder-é")
