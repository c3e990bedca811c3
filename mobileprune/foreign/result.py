"""What the attacks reach on a foreign model, and the verdict under the ceilings: it was not we who deployed it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mobileprune.audit.exposure import Exposure
from mobileprune.audit.gates import Gate, Gates, worst
from mobileprune.audit.verdict import EXIT_CODES, Verdict, judge
from mobileprune.config import Effort
from mobileprune.evaluate.results import SubjectResult, exposed, guessing, subject_result
from mobileprune.foreign.subject import Examined


@dataclass(frozen=True)
class ForeignResult:
    """Every attack on a model that is not an artifact; with ``verdict`` and ``gates`` where it was audited.

    ``model``: its kind (function, file or table), name, sha256 and what its outputs are.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    effort: Effort
    subject: SubjectResult
    exposure: Exposure
    notes: tuple[str, ...]
    verdict: Verdict | None = None
    gates: tuple[Gate, ...] = ()

    @property
    def exit_code(self) -> int:
        outcomes = [self.verdict.overall] if self.verdict else []
        return EXIT_CODES[worst([*outcomes, *(gate.outcome for gate in self.gates)])]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "effort": self.effort.to_dict(),
            "subjects": {"artifact": self.subject.to_dict()},
            "exposure": self.exposure.to_dict(),
            "notes": list(self.notes),
            "verdict": self.verdict.to_dict() if self.verdict else None,
            "gates": [gate.to_dict() for gate in self.gates],
        }


def result(found: Examined, gates: Gates | None = None) -> ForeignResult:
    """The attacks; judged too with ``gates``, of which a model without a source leaves some inconclusive."""
    scores = found.subject.scores
    measured = subject_result(found.subject)
    who = exposed(found.subject, measured, found.files)
    guesses = guessing(measured)
    notes = (*found.notes, *([guesses] if guesses else []))
    attacked = ForeignResult(found.model, found.data, found.effort, measured, who, notes)
    if gates is None:
        return attacked
    # Of a file it is the likeliest that its inputs were prepared wrongly.
    unsure = guesses if guesses and found.model["kind"] == "file" else None
    judged = replace(attacked, verdict=judge(scores, None, gates.policy, deployed=False, unsure=unsure))
    bench = {"artifact": asdict(found.size), "baseline": None} if found.size else None
    return replace(judged, gates=tuple(gates.check({"audit": judged.to_dict(), "bench": bench})))
