"""What files from elsewhere may hold at most, where several readers keep to the same."""

from __future__ import annotations

import zipfile

MOST_CLASSES = 1_000_000
"""As in the schemas; more are ids, not classes."""
ZIP_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that numpy and torch write. Of others :mod:`zipfile` unpacks a whole block at once, whatever a record says."""
