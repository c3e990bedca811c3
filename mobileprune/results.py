"""What the verbs that judge return: audits with the gates of their policy, and whole reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileprune.artifact import Artifact
from mobileprune.audit import gates
from mobileprune.audit.gates import Gate, Gates
from mobileprune.audit.verdict import EXIT_CODES, Policy
from mobileprune.bench import BenchResult
from mobileprune.bench.on_device import DeviceBench
from mobileprune.evaluate import AuditResult
from mobileprune.runs import StepResult

PolicyLike = Policy | Gates | str | Path
"""Of an audit: a policy, one with gates, or the file that holds them."""


@dataclass(frozen=True)
class Audited(AuditResult):
    """An audit with the gates of its policy; ``bench`` where a gate asked for one."""

    gates: tuple[Gate, ...] = ()
    bench: BenchResult | None = None

    @property
    def exit_code(self) -> int:
        """Of the worst of the verdict and the gates."""
        return EXIT_CODES[gates.worst([self.verdict.overall, *(gate.outcome for gate in self.gates)])]

    def to_dict(self) -> dict[str, Any]:
        measured = {"bench": self.bench.to_dict()} if self.bench else {}
        return {**super().to_dict(), "gates": [gate.to_dict() for gate in self.gates], **measured}


@dataclass(frozen=True)
class ReportResult:
    """Everything measured on one artifact, on a device too if one was given.

    ``contents``: as ``inspect`` shows them; ``paths``: the written files.
    """

    artifact: Artifact
    bench: BenchResult
    audit: Audited
    contents: dict[str, Any]
    steps: tuple[StepResult, ...]
    paths: dict[str, Path]
    device_bench: DeviceBench | None = None

    def to_dict(self) -> dict[str, Any]:
        elsewhere = {"device_bench": self.device_bench.to_dict()} if self.device_bench else {}
        return {
            "artifact": str(self.artifact.path),
            "manifest": self.artifact.manifest.to_dict(),
            "bench": self.bench.to_dict(),
            "audit": self.audit.to_dict(),
            "contents": self.contents,
            "steps": [step.to_dict() for step in self.steps],
            "report": {kind: str(path) for kind, path in self.paths.items()},
            **elsewhere,
        }


def gated(
    audited: AuditResult, artifact: Artifact, measured: BenchResult | None, limits: Gates, **more: Any
) -> Audited:
    """The audit with what the gates say of it, of the manifest and of the benchmark, if there was one."""
    values = {
        "audit": audited.to_dict(),
        "manifest": artifact.manifest.to_dict(),
        "bench": measured and measured.to_dict(),
    }
    return Audited(audited.attack, audited.verdict, tuple(limits.check(values)), **more)


def limits_of(policy: PolicyLike | None) -> Gates:
    """The gates, read from the file if a path is given; ConfigError lists all that is wrong in it."""
    if isinstance(policy, str | Path):
        return gates.read(Path(policy))
    return policy if isinstance(policy, Gates) else Gates(policy or Policy())
