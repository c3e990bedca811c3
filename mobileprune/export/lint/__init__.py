"""What must not leave the machine inside a model file, found in the file itself.

Rules for the bytes of any file are in :mod:`~mobileprune.export.lint.any_file`; a kind of file that can be read has its
own in :data:`READERS`. A rule is a small function that yields where it found what; nothing in the file is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.export.lint import any_file, archive, onnx

MAX_FILE_BYTES = 2**31
Shape = tuple[int, int, int]


@dataclass(frozen=True, order=True)
class Finding:
    """``rule`` that is broken, ``where`` in the file ("" for its bytes as such), and ``what`` was found there."""

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}" + (f" in {self.where}" if self.where else "")


Reader = Callable[[bytes, Shape | None], Iterator[tuple[str, str, str]]]
READERS: dict[str, Reader] = {".onnx": onnx.findings, ".ptl": archive.findings}


def findings_of(file: Path, input_shape: Shape | None = None) -> list[Finding]:
    """Everything in ``file`` that should not leave, sorted.

    ``input_shape`` (C, H, W): by which stored images are known; an ONNX file tells it itself where this is None.
    Raises ArtifactError for a file that cannot be read as what its suffix says.
    """
    if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"{file}: is no file of at most {MAX_FILE_BYTES:,} bytes")
    content = file.read_bytes()
    found = {Finding(rule, "", text) for rule, text in any_file.matches(content)}
    if reader := READERS.get(file.suffix):
        try:
            found |= {Finding(*each) for each in reader(content, input_shape)}
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{file}: cannot be read as {file.suffix} ({error}); export again") from error
    return sorted(found)


def lint(file: Path, input_shape: Shape | None = None) -> None:
    """MobilepruneError when ``file`` tells more than the model."""
    if found := findings_of(file, input_shape):
        first = {each.rule: each for each in reversed(found)}.values()  # one of each rule
        more = f" and {len(found) - len(first)} more" if len(found) > len(first) else ""
        raise MobilepruneError(
            f"the exported file contains what must not leave this machine: {'; '.join(map(str, first))}{more}; "
            "nothing was written: remove it from the model or report this"
        )
