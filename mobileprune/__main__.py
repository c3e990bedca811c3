"""``python -m mobileprune`` is ``mobileprune``."""

import os
import sys
from pathlib import Path

from mobileprune.cli.main import main

# `-m` puts the current folder first on the path, where a folder called like a package would be taken for it. It stays
# where mobileprune itself is found there.
if not sys.flags.safe_path and sys.path[0] == os.getcwd() != str(Path(__file__).parents[1]):
    del sys.path[0]
sys.exit(main())
