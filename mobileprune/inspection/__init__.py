"""What is in a file (:func:`look`) and what differs between two; none of it imports torch.

:mod:`~mobileprune.inspection.explanation` says what an export is going to bring.
"""

from __future__ import annotations

from mobileprune.inspection.difference import Difference
from mobileprune.inspection.view import View, look

__all__ = ["Difference", "View", "look"]
