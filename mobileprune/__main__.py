"""``python -m mobileprune`` is ``mobileprune``."""

import sys

from mobileprune.cli.main import main

sys.exit(main())
