"""What must not be in any file's bytes: found where it hides, and not found where it is not."""

from __future__ import annotations

import getpass
import platform
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.export.lint import any_file, onnx
from mobileprune.export.lint.any_file import (
    RULES,
    SHORTEST_NAME,
    SHORTEST_PATH,
    here,
    machine_paths,
    matches,
    people_and_machines,
)

DATA = r"[\w./\\-]+\.(?:py|ipynb|npz|npy|csv|jpe?g|png|pth|safetensors)\b"
LEAKS = {
    "source": ["site-packages", "Traceback (most recent call last)", 'File "', "train.py:", "def forward"],
    "path": ["/home/ada/data", "/Users/ada", "/root/x1", "/tmp/build", "/mnt/disk", r"C:\Users\ada", r"C:\\Users\\ada"],
    "pruning": ["fc.weight_orig", "fc.weight_mask", "bias_orig"],
    "optimizer": ["state.exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "param_groups", "optimizer_state"],
    "data": ["_bundled_inputs_deflated_forward", "calibration_data", "training_images"],
}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in LEAKS.items() for text in texts])
def test_each_leak_is_found_between_weights(rule: str, text: str) -> None:
    noise = np.random.default_rng(0).bytes(1000)
    assert {found for found, _ in matches(noise + b"\0" + text.encode() + b"\0" + noise, RULES)} == {rule}


SLOW = {any_file.SOURCE_FILE: r'[\w./\\-]{4,}\.py[:\n"]', onnx.DATA_FILE.pattern: DATA}


@pytest.mark.parametrize("pattern", SLOW)
@settings(max_examples=500)
@given(text=st.lists(st.sampled_from(["a", "ab-", "/", ".py", ".py:", ".csv", ' "', ".", "x.csv.py"])).map("".join))
def test_a_word_is_found_as_if_every_letter_could_be_its_first(pattern: str, text: str) -> None:
    assert [hit[0] for hit in re.finditer(pattern, text)] == [hit[0] for hit in re.finditer(SLOW[pattern], text)]


@pytest.mark.parametrize("pattern", SLOW)
def test_a_word_of_two_million_letters_takes_no_time(pattern: str) -> None:
    """It would take hours if every letter could be its first."""
    assert re.search(pattern, "a" * 2_000_000) is None


def test_every_rule_is_tried() -> None:
    assert set(LEAKS) == set(RULES)


@pytest.mark.parametrize("folder", [Path.home(), Path.cwd(), Path(sys.prefix), Path(tempfile.gettempdir())])
def test_a_path_of_this_machine_is_found(folder: Path) -> None:
    if len(f"{folder}/") < SHORTEST_PATH:
        pytest.skip("the folder's name is too short to tell anything")
    assert ("path", f"{folder}/") in list(matches(b"\x00" + str(folder / "model").encode() + b"\x00"))


def test_the_users_and_the_hosts_name_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "lovelace")
    monkeypatch.setattr(platform, "node", lambda: "engine7.example.org")
    monkeypatch.setattr(Path, "home", lambda: Path("/elsewhere/babbage"))
    assert people_and_machines() == {"lovelace", "engine7.example.org", "engine7", "babbage"}
    content = b"X\0\0\0lovelaceq\1engine7.local\0 babbage"  # as pickle writes it: a letter follows
    assert list(matches(content, here())) == [("name", "babbage"), ("name", "engine7"), ("name", "lovelace")]
    assert list(matches(b"love\0babb\0engine", here())) == []


def test_a_user_without_a_home_has_no_rules_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    with_one = machine_paths()
    monkeypatch.setattr(Path, "home", homeless)
    assert {f"{Path.cwd()}/", f"{sys.prefix}/"} <= machine_paths() <= with_one
    assert people_and_machines() is not None


def test_names_that_say_nothing_are_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr(platform, "node", lambda: "localhost")
    monkeypatch.setattr(Path, "home", lambda: Path("/root"))
    assert people_and_machines() == set()


def test_matches_are_sorted_and_named_once() -> None:
    found = list(matches(b'/tmp/ab File "a" /tmp/ab site-packages File "b"', RULES))
    assert found == [("path", "/tmp/ab"), ("source", 'File "'), ("source", "site-packages")]


def test_weights_alone_are_clean() -> None:
    assert list(matches(b"")) == []
    assert list(matches(np.random.default_rng(0).bytes(2**21))) == []
    assert list(matches(np.random.default_rng(0).normal(size=2**18).astype(np.float32).tobytes())) == []
    assert (
        list(matches(b"conv1.weight\x00model\x00logits\x00torch.float32\0/features/0/Conv\0attn_mask\0.pyramid")) == []
    )


def test_short_paths_and_names_are_not_searched_for() -> None:
    assert all(len(path) >= SHORTEST_PATH for path in machine_paths())
    assert all(len(name) >= SHORTEST_NAME for name in people_and_machines())
