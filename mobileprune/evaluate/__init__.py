"""Joins an artifact with the data of its lineage and asks it, its source and the dense baseline the same questions.

What is attacked is the exported file through its runtime; the source is asked through PyTorch only to have
something to hold the file against.
"""

from __future__ import annotations

from mobileprune.evaluate.asking import Subject, ask, of_artifact, of_source
from mobileprune.evaluate.on_device import OnDevice
from mobileprune.evaluate.relatives import Relatives, audit_data, config_of, overrides_of, relatives
from mobileprune.evaluate.results import AttackResult, AuditResult, result, verdict
from mobileprune.evaluate.subjects import asked_there, copies, subjects

__all__ = [
    "AttackResult",
    "AuditResult",
    "OnDevice",
    "Relatives",
    "Subject",
    "ask",
    "asked_there",
    "audit_data",
    "config_of",
    "copies",
    "of_artifact",
    "of_source",
    "overrides_of",
    "relatives",
    "result",
    "subjects",
    "verdict",
]
