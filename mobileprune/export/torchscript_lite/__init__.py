"""TorchScript-lite: trace, freeze, save for the lite interpreter, and strip source text and debug records.

Deprecated upstream in favour of ExecuTorch; :data:`DEPRECATION` is what the command line says, once.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn

from mobileprune import torchscript
from mobileprune.errors import MobilepruneError, UsageError, one_line
from mobileprune.export.target import ExportOptions, Storage
from mobileprune.export.torchscript_lite.forms import FORMS, store
from mobileprune.export.torchscript_lite.graph import plus_zero
from mobileprune.export.torchscript_lite.int8 import engine, int8
from mobileprune.export.torchscript_lite.strip import strip

DEPRECATION = "TorchScript-lite is deprecated by PyTorch: it still runs, but plan to move to ExecuTorch"
BYTECODE_VERSIONS = (4, 5, 7, 8)
CURRENT_BYTECODE = 8
PRECISIONS = ("fp32", "fp16", "int8")


def write(model: nn.Module, input_shape: tuple[int, int, int], path: Path, options: ExportOptions) -> Storage:
    torchscript.require()
    version = CURRENT_BYTECODE if options.bytecode_version is None else options.bytecode_version
    if version not in BYTECODE_VERSIONS:
        raise UsageError(f"--bytecode-version {version}: must be one of {', '.join(map(str, BYTECODE_VERSIONS))}")
    whole = options.precision == "int8"
    with engine() if whole else nullcontext(), _fresh_compilation_unit(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch about itself, and about Python in the model: parity tries other inputs
        frozen = freeze(int8(model, options.images()) if whole else model, input_shape)
        content, storage = store(
            frozen, input_shape, options.precision, options.sparse_format, lambda module: saved(module, version)
        )
    path.write_bytes(content)
    return storage


def freeze(model: nn.Module, input_shape: tuple[int, int, int]) -> torch.jit.ScriptModule:
    """Traced, with all that never changes made a constant, and all zeros +0."""
    example = torch.zeros(2, *input_shape)
    try:
        traced = torch.jit.trace(model.eval(), example, check_trace=False)  # parity checks more than its second trace
        frozen: torch.jit.ScriptModule = torch.jit.freeze(traced)
    except Exception as error:  # any code of the user's
        raise MobilepruneError(f"torch cannot trace this model: {one_line(error)}") from error
    plus_zero(frozen.graph)
    return frozen


def saved(module: torch.jit.ScriptModule, version: int) -> bytes:
    """A file of that bytecode ``version``, stripped."""
    from torch.jit.mobile import _backport_for_mobile

    with tempfile.TemporaryDirectory() as folder:
        raw, older = Path(folder) / "raw.ptl", Path(folder) / "older.ptl"
        module._save_for_lite_interpreter(str(raw))
        if version == CURRENT_BYTECODE:
            return strip(raw)
        _backport_for_mobile(str(raw), str(older), version)
        return strip(older)


@contextmanager
def _fresh_compilation_unit() -> Iterator[None]:
    """TorchScript numbers type names through a process: without this the bytes depend on what was exported before."""
    state = torch.jit._state
    shared = state._python_cu
    recursive, types = torch.jit._recursive, torch.jit._recursive.concrete_type_store
    state._python_cu = torch._C.CompilationUnit()
    recursive.concrete_type_store = recursive.ConcreteTypeStore()
    state._clear_class_state()
    try:
        yield
    finally:
        state._python_cu = shared
        recursive.concrete_type_store = types
        state._clear_class_state()


__all__ = ["BYTECODE_VERSIONS", "DEPRECATION", "FORMS", "PRECISIONS", "write"]
