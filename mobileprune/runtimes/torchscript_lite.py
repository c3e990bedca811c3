"""PyTorch's lite interpreter, as shipped in PyTorch Mobile."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileprune import torchscript
from mobileprune.bounds import ZIP_COMPRESSIONS
from mobileprune.errors import ArtifactError, one_line
from mobileprune.files import sha256
from mobileprune.runtimes import lite_checks
from mobileprune.runtimes.base import RuntimeOptions, Session
from mobileprune.runtimes.trial import first_run, memory_limit

NAMESPACES = ("aten::", "prim::", "quantized::", "prepacked::")
REFUSED = ("aten::from_file", "aten::save")  # they touch the file system


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks the archive's CRCs and operators, then a first run in a child: the interpreter itself is not hardened."""
    import torch

    torchscript.require()
    _check_archive(path)
    torch.set_num_threads(options.num_threads)
    if "qnnpack" in torch.backends.quantized.supported_engines:  # the engine of phones; others saturate on many CPUs
        torch.backends.quantized.engine = "qnnpack"
    first_run(_checked, path, sha256(path), options)
    return _load(path)


def _checked(path: Path, content: bytes, options: RuntimeOptions) -> Session:
    import torch

    torch.set_num_threads(options.num_threads)
    lite_checks.check_sizes(path)
    _check_operators(path)
    lite_checks.check_uses(path)
    return _load(path)


def _check_archive(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # an archive behind another format would vouch for what it does not hold
                raise zipfile.BadZipFile("not an archive")
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > memory_limit(path.stat().st_size):
                raise zipfile.BadZipFile("unpacks to more than any model")
            if any(info.compress_type not in ZIP_COMPRESSIONS for info in archive.infolist()):
                raise zipfile.BadZipFile("is compressed as no such archive is")
            broken = archive.testzip()
    except Exception as error:  # what zipfile and its decompressors raise has no common base
        raise ArtifactError(f"{path}: corrupt TorchScript-lite file ({one_line(error)}); export again") from error
    if broken is not None:
        raise ArtifactError(f"{path}: corrupt TorchScript-lite file (record {broken}); export again")


def _check_operators(path: Path) -> None:
    from torch.jit.mobile import _get_model_ops_and_info

    try:
        operators = sorted(_get_model_ops_and_info(str(path)))
    except Exception as error:
        raise ArtifactError(f"{path}: the lite interpreter refuses this model ({one_line(error)})") from error
    bad = [op for op in operators if not op.startswith(NAMESPACES) or op.split(".")[0] in REFUSED]
    if bad:
        raise ArtifactError(f"{path}: uses operators that an image classifier does not need: {', '.join(bad)}")


def _load(path: Path) -> Session:
    import torch
    from torch.jit.mobile import _load_for_lite_interpreter

    _check_operators(path)  # before anything of the file is run
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = _load_for_lite_interpreter(str(path))
    except Exception as error:
        raise ArtifactError(f"{path}: the lite interpreter refuses this model ({one_line(error)})") from error

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                output = module(torch.from_numpy(np.ascontiguousarray(x)))
                if not torch.is_floating_point(output):
                    raise TypeError(f"outputs are {output.dtype}")
                return np.asarray(output.float().numpy(), np.float32)
        except Exception as error:
            raise ArtifactError(f"{path}: inference failed ({one_line(error)})") from error

    return run
