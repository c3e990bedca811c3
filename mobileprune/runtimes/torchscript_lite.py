"""PyTorch's lite interpreter, as shipped in PyTorch Mobile."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import ArtifactError
from mobileprune.runtimes.base import RuntimeOptions, Session

NAMESPACES = ("aten::", "prim::", "quantized::", "prepacked::")
REFUSED = ("aten::from_file", "aten::save")  # they touch the file system


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks the archive's CRCs and operators first: the interpreter itself is not hardened."""
    import torch
    from torch.jit.mobile import _export_operator_list, _load_for_lite_interpreter

    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ArtifactError(f"{path}: corrupt TorchScript-lite file ({error}); export again") from error
    if broken is not None:
        raise ArtifactError(f"{path}: corrupt TorchScript-lite file (record {broken}); export again")
    torch.set_num_threads(options.num_threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = _load_for_lite_interpreter(str(path))
            operators = sorted(_export_operator_list(module))
    except RuntimeError as error:
        raise ArtifactError(f"{path}: the lite interpreter refuses this model ({_one_line(error)})") from error
    bad = [op for op in operators if not op.startswith(NAMESPACES) or op.split(".")[0] in REFUSED]
    if bad:
        raise ArtifactError(f"{path}: uses operators that an image classifier does not need: {', '.join(bad)}")

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                return np.asarray(module(torch.from_numpy(np.ascontiguousarray(x))).numpy(), np.float32)
        except (RuntimeError, AttributeError) as error:
            raise ArtifactError(f"{path}: inference failed ({_one_line(error)})") from error

    return run


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
