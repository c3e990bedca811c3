"""TorchScript-lite: trace, freeze, save for the lite interpreter, and strip source text and debug records.

Deprecated upstream in favour of ExecuTorch; :data:`DEPRECATION` is what the command line says, once.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.jit.mobile import _backport_for_mobile

from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export.target import ExportOptions

DEPRECATION = "TorchScript-lite is deprecated by PyTorch: it still runs, but plan to move to ExecuTorch"
BYTECODE_VERSIONS = (4, 5, 7, 8)
CURRENT_BYTECODE = 8
_WRITTEN_BY_TORCH = ("version", "byteorder", ".data/serialization_id")


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> None:
    version = CURRENT_BYTECODE if options.bytecode_version is None else options.bytecode_version
    if version not in BYTECODE_VERSIONS:
        raise UsageError(f"--bytecode-version {version}: must be one of {', '.join(map(str, BYTECODE_VERSIONS))}")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore", DeprecationWarning)
        raw = Path(folder) / "raw.ptl"
        try:
            with _fresh_compilation_unit():
                traced = torch.jit.trace(model.eval(), torch.zeros(2, *input_shape))
                torch.jit.freeze(traced)._save_for_lite_interpreter(str(raw))
        except Exception as error:  # any code of the user's
            raise MobilepruneError(f"torch cannot trace this model: {' '.join(str(error).split())[:300]}") from error
        if version != CURRENT_BYTECODE:
            older = Path(folder) / "older.ptl"
            _backport_for_mobile(str(raw), str(older), version)
            raw = older
        strip(raw, path)


@contextmanager
def _fresh_compilation_unit() -> Iterator[None]:
    """TorchScript numbers type names through a process: without this the bytes depend on what was exported before."""
    state = torch.jit._state
    shared = state._python_cu
    state._python_cu = torch._C.CompilationUnit()
    state._clear_class_state()
    try:
        yield
    finally:
        state._python_cu = shared
        state._clear_class_state()


def strip(source: Path, path: Path) -> None:
    """Copy the archive without ``code/``: source text and file paths, which the lite interpreter does not read."""
    reader = torch._C.PyTorchFileReader(str(source))
    buffer = io.BytesIO()  # a file name would become the archive's root folder, temporary path included
    writer = torch._C.PyTorchFileWriter(buffer)
    for name in reader.get_all_records():
        if not name.startswith("code/") and name not in _WRITTEN_BY_TORCH:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    path.write_bytes(buffer.getvalue())
