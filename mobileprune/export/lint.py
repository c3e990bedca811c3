"""What must not leave the machine inside a model file: its paths, source text, stack traces."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from mobileprune.errors import MobilepruneError

WORDS = (
    b"site-packages",
    b"dist-packages",
    b"Traceback (most recent",
    b'File "',
    b".py:",
    b".py\n",
    b'.py"',
    b"def forward",
)
SHORTEST_PATH = 5  # "/tmp/": shorter strings occur by chance in weights


def machine_paths() -> set[str]:
    """Folders that tell of this machine or its owner."""
    package = Path(__file__).resolve().parents[2]
    folders = {Path.home(), Path.cwd(), package, Path(sys.prefix), Path(tempfile.gettempdir())}
    return {text for folder in folders if len(text := f"{folder}{os.sep}") >= SHORTEST_PATH}


def findings(content: bytes, paths: Iterable[str] | None = None) -> list[str]:
    """The forbidden strings found in ``content``, sorted."""
    wanted = [*WORDS, *(path.encode() for path in (machine_paths() if paths is None else paths))]
    return sorted(word.decode().strip() for word in wanted if word in content)


def lint(file: Path) -> None:
    """MobilepruneError when ``file``, or a record of it where it is an archive, tells more than the model."""
    contents = [file.read_bytes()]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            contents += [archive.read(name) for name in archive.namelist()]
    found = sorted({word for content in contents for word in findings(content)})
    if found:
        raise MobilepruneError(
            f"the exported file contains text that must not leave this machine: {', '.join(found)}; "
            "nothing was written: remove it from the model's names or report this"
        )
