"""The same file on a device and on this machine, asked the same: does another processor change what it gives away?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mobileprune.artifact import Artifact
from mobileprune.attacks import Group
from mobileprune.audit.auc import auc
from mobileprune.audit.compare import paired_auc
from mobileprune.audit.intervals import Estimate
from mobileprune.evaluate.asking import Asked, Subject, of_artifact
from mobileprune.pipeline.context import Context
from mobileprune.runtimes.device import DeviceRuntime


@dataclass(frozen=True)
class OnDevice:
    """How the device's answers differ from this machine's, over the examples that were attacked.

    ``top1_differ``: of how many of the ``examples`` the class differs; ``auc``: of every attack, here;
    ``auc_difference``: device minus here, on the same examples, with a paired interval.
    """

    device: dict[str, Any]
    kernels: str
    examples: int
    largest_difference: float
    top1_differ: int
    auc: dict[Group, dict[str, Estimate]]
    auc_difference: dict[Group, dict[str, Estimate]]

    @property
    def sentence(self) -> str:
        """Where the exported file was asked, and how its answers differ."""
        found, emulated = self.device, ", emulated" if self.device["emulated"] else ""
        says = (
            f"the exported file was asked on {found['name']} ({found['platform']}{emulated}, ONNX Runtime "
            f"{found['runtime']}): {self.top1_differ} of {self.examples:,} classes differ from this machine's, "
            f"logits by {self.largest_difference:.2g} at most"
        )
        return f"{says}; {self.kernels}" if self.kernels else says

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        both = {"auc": self.auc, "auc_difference": self.auc_difference}
        nested = {
            key: {group: {name: found.to_dict() for name, found in by.items()} for group, by in value.items()}
            for key, value in both.items()
        }
        return asdict(self) | nested


def of_device(artifact: Artifact, context: Context, there: DeviceRuntime) -> Asked:
    """The artifact, to be asked through ``there``."""
    here = of_artifact("artifact", artifact, context)
    identity = {**here.identity, "kernels": there.kernels and there.kernels.library, "device": there.identity()}
    return replace(here, identity=identity, predict=there.predict, said=f"{here.said}, on the device")


def on_device(there: Subject, here: Subject, runtime: DeviceRuntime) -> OnDevice:
    """``there`` and ``here``: the answers of ``runtime``, and of this machine to the same questions."""
    a, b = there.outputs.evidence.logits, here.outputs.evidence.logits
    groups = here.scores.groups()
    return OnDevice(
        device=runtime.facts,
        kernels=runtime.kernels.sentence if runtime.kernels else "",
        examples=len(a),
        largest_difference=float(np.abs(a - b).max(initial=0.0)),
        top1_differ=int((a.argmax(1) != b.argmax(1)).sum()),
        auc={group: {name: auc(*part.sides(name)) for name in part.by_attack} for group, part in groups.items()},
        auc_difference=paired_auc(there.scores, here.scores),
    )
