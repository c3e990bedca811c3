"""What is in a file (:func:`look`), what differs between two, and what an export is going to bring."""

from __future__ import annotations

from mobileprune.inspection.difference import Difference
from mobileprune.inspection.explanation import Explanation
from mobileprune.inspection.view import View, look

__all__ = ["Difference", "Explanation", "View", "look"]
