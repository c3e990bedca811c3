"""``python -m mobileprune.bench.memory_probe ARTIFACT_DIR THREADS [MODULE...]``: print memory as JSON.

The baseline is taken after the imports. A runtime may import its library only when it is opened: such modules are
printed as ``late_imports``, and the caller runs the probe again with them as MODULEs, imported before the baseline.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path


def high_water_kib() -> int:
    """Peak resident memory of this process since the last :func:`reset_high_water`."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak  # bytes there, KiB elsewhere


def reset_high_water() -> None:
    """Lower the mark to the present resident size where the kernel allows it (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main(artifact_dir: str, threads: str, *modules: str) -> None:
    import numpy as np

    from mobileprune.artifact import Artifact
    from mobileprune.runtimes import open_runtime

    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    artifact = Artifact.load(Path(artifact_dir))
    x = np.zeros((1, *artifact.manifest.input_shape), dtype=np.float32)
    before = set(sys.modules)
    reset_high_water()
    baseline = high_water_kib()
    open_runtime(artifact, num_threads=int(threads)).predict(x)
    peak = high_water_kib()
    late = sorted(name for name in set(sys.modules) - before if "." not in name and not name.startswith("__"))
    print(json.dumps({"baseline_kib": baseline, "peak_kib": peak, "late_imports": late}))


if __name__ == "__main__":
    main(*sys.argv[1:])
