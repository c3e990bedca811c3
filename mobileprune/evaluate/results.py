"""What was found out about an artifact: every attack on every model asked, the notes, the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mobileprune.artifact import Artifact
from mobileprune.attacks import ATTACKS, Group, Scores
from mobileprune.audit.compare import Measurement, measure
from mobileprune.audit.distribution import Distribution, distributions
from mobileprune.audit.epsilon import EpsilonBound, one_run
from mobileprune.audit.exposure import Exposure, exposure
from mobileprune.audit.intervals import Estimate, mover_difference, rate
from mobileprune.audit.selection import Strongest, highest_auc, strongest
from mobileprune.audit.skill import guesses, in_words
from mobileprune.audit.verdict import GROUPS, Policy, Verdict, judge
from mobileprune.config import Effort
from mobileprune.convert.harden import hardening
from mobileprune.data.splits import Splits
from mobileprune.evaluate.asking import PLAIN, Subject, files_asked_about
from mobileprune.evaluate.on_device import OnDevice
from mobileprune.runtimes import kernels_used

MEMBERSHIP_UNKNOWN = (
    "it is not known what the checkpoint was trained on, so held-out images may be members; "
    "let the data state it (members/ and nonmembers/ in folder:PATH, or 'member' in npz:PATH)"
)
HARDENED_FILE = (
    "whoever reads the file (--access file) cuts off the layer that hardens its outputs, and the attacks asked it with "
    "that layer; audit an export without --harden"
)
MANY_UNSTABLE = 0.05
NOTHING_LEARNED = (
    "nothing that is held against it means anything; it was trained too briefly, or of a checkpoint --mean and --std "
    "or the order of the classes is wrong"
)


@dataclass(frozen=True)
class SubjectResult:
    """``accuracy`` by the side of the examples; ``test_accuracy``: that on test images with its interval.

    ``most_frequent``: the share of members that have the most frequent class.
    """

    name: str
    accuracy: dict[str, float]
    most_frequent: float
    test_accuracy: Estimate
    measurements: dict[Group, dict[str, Measurement]]
    strongest: dict[Group, Strongest]
    distributions: dict[Group, Distribution]
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        measured = {g: {a: m.to_dict() for a, m in by_attack.items()} for g, by_attack in self.measurements.items()}
        strongest = {group: found.to_dict() for group, found in self.strongest.items()}
        return {
            "accuracy": self.accuracy,
            "most_frequent": self.most_frequent,
            "test_accuracy": self.test_accuracy.to_dict(),
            "measurements": measured,
            "strongest": strongest,
            "distributions": {group: found.to_dict() for group, found in self.distributions.items()},
            "skipped": self.skipped,
        }


@dataclass(frozen=True)
class AttackResult:
    """Every attack that ``effort`` allows on every subject there is; ``notes`` say which are missing and why.

    Of the artifact also: lower bounds on epsilon (95 % for all groups together), and who is exposed. ``on_device``: how
    answers of a device differ from this machine's, where the file was asked on one.
    """

    artifact: Artifact
    data: dict[str, Any]
    effort: Effort
    subjects: dict[str, SubjectResult]
    epsilon: dict[Group, EpsilonBound]
    exposure: Exposure
    notes: tuple[str, ...]
    on_device: OnDevice | None = None

    def to_dict(self) -> dict[str, Any]:
        elsewhere = {"on_device": self.on_device.to_dict()} if self.on_device else {}
        return {
            "artifact_sha256": self.artifact.manifest.sha256,
            "target": self.artifact.manifest.target,
            "data": self.data,
            "effort": self.effort.to_dict(),
            "subjects": {name: subject.to_dict() for name, subject in self.subjects.items()},
            "epsilon": {group: found.to_dict() for group, found in self.epsilon.items()},
            "exposure": self.exposure.to_dict(),
            "notes": list(self.notes),
            **elsewhere,
        }


@dataclass(frozen=True)
class AuditResult:
    attack: AttackResult
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        return {**self.attack.to_dict(), "verdict": self.verdict.to_dict()}


def subject_result(subject: Subject) -> SubjectResult:
    """Accuracy (on test images only where there are some), every measurement, the strongest attack of each group."""
    sides = {"members": True, "held_out": False}
    accuracy = {name: subject.outputs.accuracy(member=inside) for name, inside in sides.items()}
    if subject.tested:
        accuracy["test"] = subject.test_accuracy
    labels, tested = subject.outputs.evidence.labels[subject.outputs.member], rate(subject.right, subject.tested)
    most = float(np.bincount(labels).max() / len(labels))
    scores = subject.scores
    best = {group: strongest(part) for group, part in scores.groups().items()}
    skipped = dict(scores.skipped)
    return SubjectResult(subject.name, accuracy, most, tested, measure(scores), best, distributions(scores), skipped)


def exposed(subject: Subject, found: SubjectResult, files: Sequence[str]) -> Exposure:
    """By the attack with the highest AUC over all members; UsageError where no attack could be run."""
    drawn = found.distributions.get("all")
    return exposure(subject.scores, drawn.attack if drawn else highest_auc(subject.scores), files=files)


def result(
    artifact: Artifact,
    splits: Splits,
    asked: dict[str, Subject],
    effort: Effort = PLAIN,
    on_device: OnDevice | None = None,
) -> AttackResult:
    """Every attack on the answers of ``asked``, which were got with ``effort``."""
    groups, drawn = asked["artifact"].scores.groups(), splits.membership == "drawn"
    subjects = {name: subject_result(subject) for name, subject in asked.items()}
    spent = artifact.manifest.lineage["differential_privacy"]
    delta = spent["delta"] if spent else 0.0
    return AttackResult(
        artifact,
        splits.described(),
        effort,
        subjects,
        {
            group: one_run(_own(part), drawn=drawn, delta=delta, confidence=1 - 0.05 / len(groups))
            for group, part in groups.items()
        },
        exposed(asked["artifact"], subjects["artifact"], files_asked_about(splits)),
        tuple(_notes(artifact, splits, asked, subjects, effort, on_device)),
        on_device,
    )


def _own(scores: Scores) -> Scores:
    """Without the attacks that ask other files too: what those find, the training of this file need not have told."""
    kept = {name: values for name, values in scores.by_attack.items() if "versions" not in ATTACKS[name].needs}
    return replace(scores, by_attack=kept)


def _notes(
    artifact: Artifact,
    splits: Splits,
    asked: dict[str, Subject],
    subjects: dict[str, SubjectResult],
    effort: Effort,
    on_device: OnDevice | None,
) -> Iterator[str]:
    missing = {"dense": "the dense baseline", "source": "the PyTorch source"}
    for name, words in missing.items():
        if name not in asked:
            yield f"{words} is not in the run store, so nothing is held against it"
    if on_device:
        yield on_device.sentence
    elif used := kernels_used(artifact):
        yield used.sentence
    yield from _hardening_notes(artifact)
    yield from filter(None, (guessing(subjects[name]) for name in ("artifact", "dense") if name in subjects))
    if "dense" in asked and not effort.versions:
        yield from _added_by_pruning(subjects["artifact"], subjects["dense"])
    if not artifact.manifest.lineage["held_out_unseen"]:
        yield MEMBERSHIP_UNKNOWN
    yield from stated(splits)
    if splits.canary.any():
        count = int(splits.canary[splits.members].sum())
        yield f"{count} members carry a wrong label on purpose (canaries): train with --canaries 0 what you ship"


def stated(splits: Splits) -> Iterator[str]:
    """How many of those that the data name were used, where not all members could be."""
    member, used = splits.images.member, len(splits.members)
    if member is not None and used < member.sum():
        yield (
            f"the data name {member.sum():,} members and {(~member).sum():,} non-members: {used:,} members are used, "
            f"and asked about beside as many non-members ({len(splits.reference):,} more are for reference, "
            f"{len(splits.test):,} to test); more non-members, or --members, change that"
        )


def guessing(found: SubjectResult) -> str:
    """A warning where a model's answers to its own members are hardly better than a guess; "" elsewhere."""
    known = found.accuracy["members"], found.most_frequent
    if not guesses(*known):
        return ""
    if found.name == "dense":
        return f"the dense baseline is {in_words(*known)}: {NOTHING_LEARNED}"
    return (
        f"it is {in_words(*known)}: that a model which is hardly better than a guess gives little away says nothing of "
        "one that has learned"
    )


def _added_by_pruning(file: SubjectResult, dense: SubjectResult) -> Iterator[str]:
    """Where the file surely leaks more than the dense model, by the strongest attack on each."""
    for group, best in file.strongest.items():
        ours, theirs = best.auc.edges, dense.strongest[group].auc.edges
        more, low, high = mover_difference(ours, theirs) if ours and theirs else (0.0, 0.0, 0.0)
        if low > 0:
            said = "the exported file leaks more than the dense model, AUC"
            yield f"{GROUPS[group]}: {said} +{more:.3f} [{low:.3f}, {high:.3f}]"


def _hardening_notes(artifact: Artifact) -> Iterator[str]:
    spec, parity = artifact.manifest.lineage["export"]["harden"], artifact.manifest.parity
    if found := hardening(spec):
        yield (
            f"the file's outputs are hardened by {spec}: {found[0].caveat}; whoever has the file can cut this last "
            "layer off and then sees what the PyTorch source shows"
        )
    if parity["unstable"] > MANY_UNSTABLE * parity["inputs"]:
        yield (
            f"{parity['unstable']} of {parity['inputs']} parity inputs lie at an edge of the hardening, where "
            "parity accepted the outputs of either side"
        )


def verdict(artifact: Artifact, asked: dict[str, Subject], policy: Policy, effort: Effort) -> Verdict:
    source, unsure = asked.get("source"), None
    if not artifact.manifest.lineage["held_out_unseen"]:
        unsure = MEMBERSHIP_UNKNOWN
    elif effort.access == "file" and hardening(artifact.manifest.lineage["export"]["harden"]):
        unsure = HARDENED_FILE
    return judge(asked["artifact"].scores, source.scores if source else None, policy, unsure=unsure)
