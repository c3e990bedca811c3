"""What must not leave: found where it hides, and not found where it is not."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mobileprune.errors import MobilepruneError
from mobileprune.export.lint import SHORTEST_PATH, WORDS, findings, lint, machine_paths


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_found_between_weights(word: bytes) -> None:
    noise = np.random.default_rng(0).bytes(1000)
    assert findings(noise + word + noise, []) == [word.decode().strip()]


@pytest.mark.parametrize("folder", [Path.home(), Path.cwd(), Path(sys.prefix), Path(tempfile.gettempdir())])
def test_a_path_of_this_machine_is_found(folder: Path) -> None:
    if len(f"{folder}/") < SHORTEST_PATH:
        pytest.skip("the folder's name is too short to tell anything")
    assert f"{folder}/" in findings(b"\x00" + str(folder / "model").encode() + b"\x00")


def test_findings_are_sorted_and_named_once() -> None:
    assert findings(b'.py: x site-packages File "a" .py:', ["/a/b/", "/c/d/"]) == sorted(
        [".py:", "site-packages", 'File "']
    )
    assert findings(b"/c/d/x /a/b/y", ["/a/b/", "/c/d/"]) == ["/a/b/", "/c/d/"]


def test_weights_alone_are_clean() -> None:
    assert findings(b"") == []
    assert findings(np.random.default_rng(0).bytes(2**21)) == []
    assert findings(b"conv1.weight\x00model\x00logits\x00torch.float32") == []


def test_short_paths_are_not_searched_for() -> None:
    assert all(len(path) >= SHORTEST_PATH for path in machine_paths())


def test_the_error_lists_what_was_found_and_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b'\x00File "x.py"\x00')
    with pytest.raises(MobilepruneError, match=r'must not leave this machine: \.py", File "; .* or report this'):
        lint(file)
    file.write_bytes(b"\x00clean\x00")
    lint(file)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_searched_inside_whether_compressed_or_not(tmp_path: Path, compression: int) -> None:
    file = tmp_path / "model.ptl"
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/code/model.txt", "def forward(self):\n" * 50)
    with pytest.raises(MobilepruneError, match="def forward"):
        lint(file)
