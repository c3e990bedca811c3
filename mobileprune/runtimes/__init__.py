"""Runtimes by target name: ``RUNTIMES``. ``open_runtime`` is the only way to run an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError
from mobileprune.runtimes.base import Runtime, RuntimeOptions, Session
from mobileprune.runtimes.kernels import KernelsUsed, kernels_used


def _onnxruntime(path: Path, options: RuntimeOptions) -> Session:
    from mobileprune.runtimes.onnxruntime import open_session

    return open_session(path, options)


def _executorch(path: Path, options: RuntimeOptions) -> Session:
    from mobileprune.runtimes.executorch import open_session

    return open_session(path, options)


def _litert(path: Path, options: RuntimeOptions) -> Session:
    from mobileprune.runtimes.litert import open_session

    return open_session(path, options)


def _mnn(path: Path, options: RuntimeOptions) -> Session:
    from mobileprune.runtimes.mnn import open_session

    return open_session(path, options)


def _ort(path: Path, options: RuntimeOptions) -> Session:
    from mobileprune.runtimes.ort_format import open_session

    return open_session(path, options)


def _torchscript_lite(path: Path, options: RuntimeOptions) -> Session:
    from mobileprune.runtimes.torchscript_lite import open_session

    return open_session(path, options)


RUNTIMES: dict[str, Callable[[Path, RuntimeOptions], Session]] = {
    "executorch": _executorch,
    "litert": _litert,
    "mnn": _mnn,
    "onnx": _onnxruntime,
    "ort": _ort,
    "torchscript-lite": _torchscript_lite,
}


def open_runtime(artifact: Artifact, num_threads: int = 1, *, native: bool = True) -> Runtime:
    """Load the artifact's file; ArtifactError if it is corrupt, unsafe or does not fit its manifest.

    Its sparse layers run on the native library where that is there, unless ``native`` is False.
    """
    manifest = artifact.manifest
    if manifest.target not in RUNTIMES:
        raise ArtifactError(f"{artifact.path}: target {manifest.target!r} has no runtime; known: {', '.join(RUNTIMES)}")
    options = RuntimeOptions(num_threads, manifest.input_name, manifest.input_shape, native)
    session = RUNTIMES[manifest.target](artifact.model_path, options)
    return Runtime(session, manifest)


__all__ = ["RUNTIMES", "KernelsUsed", "Runtime", "RuntimeOptions", "kernels_used", "open_runtime"]
