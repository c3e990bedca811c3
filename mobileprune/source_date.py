"""SOURCE_DATE_EPOCH: the moment that reproducible builds give for now (https://reproducible-builds.org/specs)."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from mobileprune.errors import UsageError

VARIABLE = "SOURCE_DATE_EPOCH"
LATEST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
"""In seconds: datetime has no later year."""


def now() -> datetime:
    """In UTC; UsageError where the variable is set to what is no moment."""
    given = os.environ.get(VARIABLE)
    if not given:
        return datetime.now(UTC)
    # Digits of other scripts are numbers to Python, yet not to whoever else reads the variable.
    if not (given.isascii() and given.isdecimal() and len(given) < 20 and int(given) <= LATEST):
        raise UsageError(f"{VARIABLE}={given[:40]!r}: must be whole seconds since 1970, at most {LATEST}")
    return datetime.fromtimestamp(int(given), UTC)
