"""The dispatch and the exit codes: 0 ok, 1 error, 2 usage, 3 failed, 4 inconclusive, 5 unavailable, 130 interrupted,
143 ended by SIGTERM."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial

from mobileprune import LIGHT, source_date
from mobileprune.cli.finish import shown
from mobileprune.cli.grammar import VERBS
from mobileprune.cli.parser import parser
from mobileprune.cli.surroundings import Terminated, interruptible, open_streams
from mobileprune.errors import MobilepruneError, one_line, printable


def main(argv: Sequence[str] | None = None) -> int:
    atexit.register(gc.freeze)  # else Python ends by looking through all that torch has made, for up to a second
    open_streams()
    return interruptible(partial(_answered, sys.argv[1:] if argv is None else argv))


def _answered(argv: Sequence[str]) -> int:
    """The exit code. Of an exception one line is said, with the way out; before it the traceback under ``-v``."""
    try:
        return _run(_parsed(argv))
    except KeyboardInterrupt as error:
        print("mobileprune: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    except Exception as error:
        if "-v" in argv or "--verbose" in argv:
            traceback.print_exc()
        print(f"mobileprune: error: {printable(' '.join(_said(error, argv).split()))}", file=sys.stderr)
        return error.exit_code if isinstance(error, MobilepruneError) else 1


def _said(error: Exception, argv: Sequence[str]) -> str:
    if isinstance(error, MobilepruneError):
        return str(error)
    if isinstance(error, OSError):  # a full disk, a folder that may not be read
        way_out = "; free some, or choose other folders with -o and --runs" if error.errno == errno.ENOSPC else ""
        return f"{error.filename or 'system'}: {error.strerror or error}{way_out}"
    verb = next((word for word in argv if word in VERBS), "mobileprune")
    what = f"a bug of mobileprune in {verb}: {one_line(error, kind=True)}"
    return f"{what}; run it again with -v and report what it says"


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    top = parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        from mobileprune.cli.completion import complete

        complete(top)
    try:
        return top.parse_args(argv)
    except SystemExit:  # --help, --version, wrong usage
        with shown():
            pass
        raise


def _run(args: argparse.Namespace) -> int:
    source_date.now()  # before a library reads the variable in its own way
    from mobileprune.cli.progress import Console

    module = importlib.import_module(f"mobileprune.cli.{'looking' if args.verb in LIGHT else 'verbs'}")
    with Console(quiet=args.quiet) as console:
        return int(getattr(module, args.verb)(args, console))


if __name__ == "__main__":
    sys.exit(main())
