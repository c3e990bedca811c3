"""Whether this torch still has TorchScript and its lite interpreter, which PyTorch has deprecated."""

from __future__ import annotations

from importlib import import_module

from mobileprune.errors import TargetUnavailableError


def require() -> None:
    """TargetUnavailableError for a torch without them."""
    import torch

    try:
        import_module("torch.jit.mobile")
    except ImportError:
        raise TargetUnavailableError(
            f"torch {torch.__version__} has no TorchScript any more, which target torchscript-lite needs: "
            "install torch 2.13, or export with --target executorch"
        ) from None
