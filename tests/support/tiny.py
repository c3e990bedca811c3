"""The smallest whole run."""

from __future__ import annotations

TINY = {"members": 100, "epochs": 3, "prune_epochs": 1, "retrain_epochs": 1}
"""Options of a run that learns nothing, in well under a second."""
