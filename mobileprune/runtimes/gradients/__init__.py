"""The attacker who holds the file: norms of the loss's gradient by the weights of an exported ``.onnx`` file.

Nothing but the file is used: its weights are unfolded, its operators differentiated in torch. That this is the file's
own function is proved on every batch: the logits must be those of ONNX Runtime.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.artifact import Artifact, Manifest
from mobileprune.errors import ArtifactError, DataError, UsageError
from mobileprune.lazy import Sliced, slices
from mobileprune.runtimes.base import RuntimeOptions, Session, normalised
from mobileprune.runtimes.onnxruntime import bound_memory
from mobileprune.runtimes.trial import first_run

if TYPE_CHECKING:
    from mobileprune.runtimes.gradients.graph import Graph

TOLERANCE, TOLERANCE_INT8 = 1e-3, 0.05
"""Of the largest logit of a batch; a number next to where int8 rounds up may be rounded down, and that goes on."""
BATCH_NUMBERS = 2**26
"""How many numbers all values of a batch may have together: 256 MiB, and about as much again for their gradients."""


def gradient_norms(
    artifact: Artifact, pixels: Sliced[np.float32], labels: NDArray[Any], batch: int = 64
) -> NDArray[np.float64]:
    """Norms (N, 2 F) of the gradient of each example's cross-entropy by each of F weight tensors.

    ``pixels`` (N, C, H, W) float32 in [0, 1], ``labels`` (N,). Column f < F: by the weights of layer f (in the file's
    order) that are not 0; column F + f: by its zeros, which in a pruned file are where the mask is.
    Layers are Conv, Gemm and MatMul with a constant second input. Gradients by int8 weights are those by the numbers
    that they stand for. What follows the last linear layer (softmax, hardened outputs) is cut off. ``batch``: how many
    examples at most are looked at together; of images that take much memory it is fewer.

    ArtifactError for a file that is not ONNX, is refused by :mod:`mobileprune.runtimes.onnx_checks`, has an operator
    whose gradient is not known here, or whose logits computed here are not those of ONNX Runtime without fused kernels
    (largest difference over the largest logit above :data:`TOLERANCE`; for int8, :data:`TOLERANCE_INT8`). UsageError
    and DataError for images and labels that do not fit.
    """
    manifest, path = artifact.manifest, artifact.model_path
    if manifest.target != "onnx":
        raise ArtifactError(
            f"{path}: gradients need a file of target onnx, not {manifest.target}, whose weights are constants of "
            "compiled code; export the same model with --target onnx"
        )
    _check(manifest, pixels, labels, batch)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.sha256:
        raise ArtifactError(f"{path}: was altered: its sha256 is not the manifest's; export again")
    options = RuntimeOptions(1, manifest.input_name, manifest.input_shape)
    opening = _Opening(manifest.num_classes, batch)
    bound_memory()
    first_run(opening, path, digest, options, (1, batch))
    graph, count = opening.graph(path, content, options)
    return _norms(graph, count, _onnxruntime(graph, content, options), manifest, pixels, labels)


@dataclass(frozen=True)
class _Opening:
    """How the child opens a file, and then this process."""

    classes: int
    batch: int

    def __call__(self, path: Path, content: bytes, options: RuntimeOptions) -> Session:
        import torch

        from mobileprune.runtimes.gradients.backward import forward

        torch.set_num_threads(options.num_threads)  # of a child, in which there are no others
        graph, count = self.graph(path, content, options)
        _onnxruntime(graph, content, options)(np.zeros((1, *options.input_shape), np.float32))
        return lambda x: forward(graph, x[:count])[0]

    def graph(self, path: Path, content: bytes, options: RuntimeOptions) -> tuple[Graph, int]:
        """The graph, and how many examples it takes at once."""
        from mobileprune.runtimes.gradients.backward import forward
        from mobileprune.runtimes.gradients.graph import read_graph

        graph = read_graph(content, path, options.input_name, options.input_shape, self.classes)
        numbers = forward(graph, np.zeros((1, *options.input_shape), np.float32))[1]
        return graph, max(1, min(self.batch, BATCH_NUMBERS // numbers))


def _onnxruntime(graph: Graph, content: bytes, options: RuntimeOptions) -> Session:
    """ONNX Runtime on the same part of the file."""
    from mobileprune.runtimes.gradients.session import session_to

    return session_to(graph.output, content, graph.path, options.input_name)


def _check(manifest: Manifest, pixels: Sliced[Any], labels: NDArray[Any], batch: int) -> None:
    if pixels.shape[1:] != manifest.input_shape:
        expected = ", ".join(map(str, manifest.input_shape))
        raise UsageError(f"input of shape {pixels.shape} does not fit this model: it takes (N, {expected})")
    if batch < 1:
        raise UsageError(f"batch {batch}: must be at least 1")
    if labels.shape != (len(pixels),) or (labels.size and not np.issubdtype(labels.dtype, np.integer)):
        raise DataError(f"labels must be integers of shape {(len(pixels),)}, got {labels.dtype} of {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < manifest.num_classes:
        raise DataError(f"labels must lie in 0..{manifest.num_classes - 1}, got {labels.min()}..{labels.max()}")


def _norms(
    graph: Graph, count: int, session: Session, manifest: Manifest, pixels: Sliced[np.float32], labels: NDArray[Any]
) -> NDArray[np.float64]:
    from mobileprune.runtimes.gradients.backward import forward_backward

    found = np.zeros((len(pixels), 2 * len(graph.weights)))
    for part in slices(len(pixels), count) if len(pixels) else ():
        x = np.ascontiguousarray(normalised(pixels[part], manifest))
        logits, found[part] = forward_backward(graph, x, labels[part].astype(np.int64))
        _prove(graph, logits, session(x))
    if not np.isfinite(found).all():
        raise ArtifactError(f"{graph.path}: gradients are not finite")
    return found


def _prove(graph: Graph, logits: NDArray[np.float32], answers: NDArray[np.float32]) -> None:
    """ArtifactError unless ``logits`` are the ``answers`` of ONNX Runtime: the gradients would be of something else."""
    tolerance = TOLERANCE_INT8 if any(node.kind == "QuantizeLinear" for node in graph.nodes) else TOLERANCE
    fits = logits.shape == answers.shape
    error, largest = (np.abs(logits - answers).max(), np.abs(answers).max()) if fits else (np.inf, 0.0)
    if not error <= tolerance * largest:
        raise ArtifactError(
            f"{graph.path}: differentiated, the file gives other logits than in ONNX Runtime: they differ by "
            f"{error:.3g}, at most {tolerance:g} of the largest ({largest:.3g}) is allowed; its gradients are not used"
        )
