"""What must not be in any file's bytes: source text, paths, names of people and machines, leftovers of training.

In a binary file a letter beside a word may be a tag or a length, so no pattern asks for a word's boundary.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHORTEST_PATH, SHORTEST_NAME = 5, 5  # "/tmp/": shorter strings occur by chance in weights
NOBODY = {
    *("admin", "build", "builder", "debian", "docker", "localhost", "runner", "ubuntu", "vagrant"),
    *("archive", "input", "layer", "linear", "mobileprune", "model", "python", "pytorch", "torch"),
}
SOURCE_FILE = r'(?<![\w./\\-])[\w./\\-]{4,}\.py[:\n"]'
"""Only from where a word begins: tried from each of its letters, one of n takes n * n steps."""

Rules = dict[str, tuple[str, ...]]
RULES: Rules = {
    "source": (
        r"site-packages",
        r"dist-packages",
        r"Traceback \(most recent",
        r'File "',
        SOURCE_FILE,
        r"def forward",
    ),
    "path": (r"(?:/home|/Users|/root|/tmp|/mnt|/media)/[\w./-]{2,}", r"[A-Z]:\\{1,2}Users\\{1,2}\w+"),
    "pruning": (r"(?:weight|bias)_(?:orig|mask)",),
    "optimizer": (r"exp_avg(?:_sq)?", r"momentum_buffer", r"square_avg", r"param_groups", r"optimizer_state"),
    "data": (r"bundled_inputs?", r"calibration_(?:data|images|inputs)", r"training_(?:data|images|inputs)"),
}


def _home() -> set[Path]:
    """Empty for a user without a home, as many a container has one."""
    try:
        return {Path.home()}
    except RuntimeError:
        return set()


def machine_paths() -> set[str]:
    """Folders that tell of this machine or its owner."""
    package = Path(__file__).resolve().parents[2]
    folders = {*_home(), Path.cwd(), package, Path(sys.prefix), Path(tempfile.gettempdir())}
    return {text for folder in folders if len(text := f"{folder}{os.sep}") >= SHORTEST_PATH}


def people_and_machines() -> set[str]:
    """The user's and the host's name, unless so short or so common that they say nothing."""
    names = {*(home.name for home in _home()), platform.node(), platform.node().partition(".")[0]}
    with suppress(KeyError, ImportError, OSError):  # a user without a name
        names.add(getpass.getuser())
    return {name for name in names if len(name) >= SHORTEST_NAME and name.lower() not in NOBODY}


def here() -> Rules:
    """Rules that this machine adds."""
    return {
        "path": tuple(re.escape(path) for path in machine_paths()),
        "name": tuple(map(re.escape, people_and_machines())),
    }


def matches(content: bytes, rules: Rules | None = None) -> Iterator[tuple[str, str]]:
    """(rule, text found), each once, sorted; ``rules``: :data:`RULES` and those of this machine."""
    found = set()
    for chosen in (RULES, here()) if rules is None else (rules,):
        for rule, patterns in chosen.items():
            for pattern in patterns:
                hits = re.finditer(pattern.encode(), content, re.ASCII)
                found |= {(rule, hit[0].decode(errors="replace").strip()) for hit in hits}
    yield from sorted(found)
