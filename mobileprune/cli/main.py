"""The dispatch and the exit codes: 0 ok, 1 error, 2 usage, 3 failed, 4 inconclusive, 5 unavailable, 130 interrupted."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import importlib
import os
import sys
from collections.abc import Sequence

from mobileprune import LIGHT
from mobileprune.cli.parser import parser
from mobileprune.errors import MobilepruneError


def main(argv: Sequence[str] | None = None) -> int:
    atexit.register(gc.freeze)  # else Python ends by looking through all that torch has made, for up to a second
    argv = sys.argv[1:] if argv is None else argv
    verbose = "-v" in argv or "--verbose" in argv
    try:
        top = parser()
        if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
            from mobileprune.cli.completion import complete

            complete(top)
        return _run(top.parse_args(argv))
    except MobilepruneError as error:
        if verbose:
            raise
        print(f"mobileprune: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `mobileprune ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be read
        if verbose:
            raise
        way_out = "; free some, or choose other folders with -o and --runs" if error.errno == errno.ENOSPC else ""
        print(f"mobileprune: error: {error.filename or 'system'}: {error.strerror or error}{way_out}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mobileprune: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from mobileprune.cli.progress import Console

    module = importlib.import_module(f"mobileprune.cli.{'looking' if args.verb in LIGHT else 'verbs'}")
    with Console(quiet=args.quiet) as console:
        return int(getattr(module, args.verb)(args, console))


if __name__ == "__main__":
    sys.exit(main())
