"""Reading files within bounds, their hashes, and writing text and JSON."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import pytest

from mobileprune.errors import MobilepruneError
from mobileprune.files import digest, read_regular, sha256, write_json, write_text
from mobileprune.schemas import parse


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_an_open_descriptor_is_written_on_where_it_is(tmp_path: Path) -> None:
    """As /dev/stdout is one, redirected to a file: its other text stays, it itself stays, and so does the link."""
    with (tmp_path / "redirected").open("w") as file:
        (tmp_path / "fd").symlink_to("/proc/self/fd")
        (tmp_path / "stdout").symlink_to(Path("fd", str(file.fileno())))
        number = (tmp_path / "redirected").stat().st_ino
        print("before", file=file, flush=True)
        write_text(tmp_path / "stdout", "text\n")
        write_text(Path("/proc/self/fd", str(file.fileno())), "more\n")
        print("after", file=file)
    assert (tmp_path / "redirected").read_text() == "before\ntext\nmore\nafter\n"
    assert (tmp_path / "redirected").stat().st_ino == number
    assert (tmp_path / "stdout").is_symlink()
    with pytest.raises(MobilepruneError, match="cannot write"):
        write_text(Path("/proc/self/fd/999"), "text")


def test_a_name_that_is_not_utf8_can_be_written_about(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xff")
    write_text(tmp_path / "a", f"report of {name}")
    write_json(tmp_path / "b", [name, "dög"])
    assert (tmp_path / "a").read_text("utf-8") == "report of caf?"
    assert parse((tmp_path / "b").read_bytes()) == ["caf?", "dög"]


def test_only_regular_files_are_read_and_only_small_ones(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name, limit in (("a", 4), ("pipe", 9), ("endless", 9), (".", 9), ("nothing", 9)):
        with pytest.raises(OSError, match=r"larger than 4 bytes|not a regular file|directory"):
            read_regular(tmp_path / name, limit)


def test_json_that_no_parser_reads_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a", math.nan)
    assert not any(tmp_path.iterdir())


def test_digests_are_sha256_of_bytes_and_of_canonical_json(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert digest({"b": 1, "a": [True]}) == digest({"a": [True], "b": 1})
    assert digest({"b": 1, "a": [True]}) == hashlib.sha256(b'{"a":[true],"b":1}').hexdigest()
    assert len({digest(v) for v in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, ["a", 1])}) == 5
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(math.nan)
