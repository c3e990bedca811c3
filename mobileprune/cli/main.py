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
from collections.abc import Sequence
from functools import partial

from mobileprune import LIGHT, source_date
from mobileprune.cli.grammar import VERBS
from mobileprune.cli.parser import parser
from mobileprune.cli.surroundings import Terminated, interruptible, open_streams
from mobileprune.errors import MobilepruneError, one_line


def main(argv: Sequence[str] | None = None) -> int:
    atexit.register(gc.freeze)  # else Python ends by looking through all that torch has made, for up to a second
    open_streams()
    return interruptible(partial(_answered, sys.argv[1:] if argv is None else argv))


def _answered(argv: Sequence[str]) -> int:
    """The exit code. Of an exception one line is said, with the way out; all of it under ``-v``."""
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
    except KeyboardInterrupt as error:
        print("mobileprune: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    except Exception as error:
        if verbose:
            raise
        verb = next((word for word in argv if word in VERBS), "mobileprune")
        print(
            f"mobileprune: error: a bug of mobileprune in {verb}: {one_line(error, kind=True)}; "
            "run it again with -v and report what it says",
            file=sys.stderr,
        )
        return 1


def _run(args: argparse.Namespace) -> int:
    source_date.now()  # before a library reads the variable in its own way
    from mobileprune.cli.progress import Console

    module = importlib.import_module(f"mobileprune.cli.{'looking' if args.verb in LIGHT else 'verbs'}")
    with Console(quiet=args.quiet) as console:
        return int(getattr(module, args.verb)(args, console))


if __name__ == "__main__":
    sys.exit(main())
