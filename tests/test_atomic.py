"""Files and folders appear whole or not at all, also when the process dies or the place cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mobileprune import atomic as writing
from mobileprune.atomic import atomic_file, atomic_folder, clear_leftovers
from mobileprune.errors import MobilepruneError
from mobileprune.files import write_json, write_text

Atomic = Callable[[Path], AbstractContextManager[Path]]


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def tree(path: Path) -> dict[str, str | None]:
    return {p.relative_to(path).as_posix(): p.read_text() if p.is_file() else None for p in sorted(path.rglob("*"))}


def leftover(path: Path, pid: int, end: str) -> Path:
    return path.with_name(f"{writing._prefix(path, pid)}{end}")


def test_a_file_appears_whole_and_parents_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        temporary.write_text("whole")
    assert tree(path.parent) == {"a.txt": "whole"}
    write_text(path, "néw")
    write_json(path.with_name("a.json"), {"b": [1, None]})
    assert tree(path.parent) == {"a.json": '{\n  "b": [\n    1,\n    null\n  ]\n}\n', "a.txt": "néw"}


@pytest.fixture(params=[0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_who_may_read_is_as_the_umask_has_it_or_as_it_was(tmp_path: Path, umask: int) -> None:
    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    write_text(tmp_path / "a", "new")
    with atomic_folder(tmp_path / "d"):
        pass
    assert (mode(tmp_path / "a"), mode(tmp_path / "d")) == (0o666 & ~umask, 0o777 & ~umask)
    for of_file, of_folder in ((0o600, 0o700), (0o664, 0o775)):
        (tmp_path / "a").chmod(of_file)
        (tmp_path / "d").chmod(of_folder)
        write_text(tmp_path / "a", "newer")
        with atomic_folder(tmp_path / "d", replace=True):
            pass
        assert (mode(tmp_path / "a"), mode(tmp_path / "d")) == (of_file, of_folder)


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    if there:
        write_text(tmp_path / "far" / "a", "old")
        (tmp_path / "far" / "d").mkdir()
    for name in ("a", "d"):
        (tmp_path / name).symlink_to(Path("far", name))
    write_text(tmp_path / "a", "new")
    with atomic_folder(tmp_path / "d", replace=True) as temporary:
        (temporary / "b").write_text("new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "d").is_symlink()
    assert tree(tmp_path / "far") == {"a": "new", "d": None, "d/b": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "d/old"):
        (tmp_path / name).write_text("old")
    before = tree(tmp_path)

    def fail(temporary: Path) -> None:
        (temporary / "new" if temporary.is_dir() else temporary).write_text("new")
        raise error

    with pytest.raises(error), atomic_file(tmp_path / "a") as temporary:
        fail(temporary)
    with pytest.raises(error), atomic_folder(tmp_path / "d", replace=True) as temporary:
        fail(temporary)
    with pytest.raises(error), atomic_folder(tmp_path / "fresh") as temporary:
        fail(temporary)
    assert tree(tmp_path) == before


def test_a_folder_appears_whole_and_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "d"
    with atomic_folder(path) as temporary:
        (temporary / "one").write_text("1")
        assert not path.exists()
    with atomic_folder(path, replace=True) as temporary:
        (temporary / "two").write_text("2")
        assert tree(path) == {"one": "1"}
    assert tree(path.parent) == {"d": None, "d/two": "2"}


def test_without_replace_an_existing_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("old")
    with pytest.raises(MobilepruneError, match="cannot write"), atomic_folder(tmp_path / "d") as temporary:
        (temporary / "new").write_text("new")
    assert tree(tmp_path) == {"d": None, "d/old": "old"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_between_the_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("old")
    rename, calls = os.rename, []

    def failing(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise error
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "rename", failing)
        with pytest.raises((MobilepruneError, KeyboardInterrupt)), atomic_folder(tmp_path / "d", replace=True):
            pass
    assert tree(tmp_path) == {"d": None, "d/old": "old"}


def test_replacing_a_file_by_a_folder_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file")
    with atomic_folder(tmp_path / "d", replace=True):
        pass
    assert tree(tmp_path) == {"d": None}


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
@pytest.mark.parametrize("place", ["file/a", "file/deeper/a", "n" * 300])
def test_a_place_that_cannot_be_written_says_the_way_out(tmp_path: Path, atomic: Atomic, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(MobilepruneError, match=r"cannot write .*; choose a writable folder with -o"),
        atomic(tmp_path / place),
    ):
        pytest.fail("the block must not run")


def test_a_folder_in_the_place_of_a_file_says_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(MobilepruneError, match="cannot write"):
        write_text(tmp_path / "d", "text")
    assert tree(tmp_path) == {"d": None}


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_the_next_writer_clears_what_killed_processes_left(tmp_path: Path, atomic: Atomic, dead_pid: int) -> None:
    path = tmp_path / "a"
    leftover(path, dead_pid, "x1").write_text("half")
    leftover(path, dead_pid, "x2").mkdir()
    (leftover(path, dead_pid, "x2") / "half").write_text("half")
    kept = [
        leftover(path, os.getpid(), "x3"),
        leftover(tmp_path / "other", dead_pid, "x4"),
        tmp_path / ".a.notes",
        tmp_path / ".a.0badhost-1.x5",
    ]
    for file in kept:
        file.write_text("kept")
    with atomic(path):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


def test_a_folder_that_was_moved_away_last_is_put_back(tmp_path: Path, dead_pid: int) -> None:
    path = tmp_path / "d"
    leftover(path, dead_pid, "x").mkdir()
    leftover(path, dead_pid, "x.old").mkdir()
    (leftover(path, dead_pid, "x.old") / "old").write_text("old")
    clear_leftovers(path)
    assert tree(tmp_path) == {"d": None, "d/old": "old"}


def test_a_folder_that_was_moved_away_goes_when_the_new_one_is_there(tmp_path: Path, dead_pid: int) -> None:
    path = tmp_path / "d"
    for folder in (path, leftover(path, dead_pid, "x.old")):
        folder.mkdir()
        (folder / "content").write_text(folder.name)
    clear_leftovers(path)
    assert tree(tmp_path) == {"d": None, "d/content": "d"}


def test_a_folder_moved_away_by_a_live_process_is_left_alone(tmp_path: Path) -> None:
    old = leftover(tmp_path / "d", os.getpid(), "x.old")
    old.mkdir()
    clear_leftovers(tmp_path / "d")
    assert list(tmp_path.iterdir()) == [old]
