"""The parser that the grammar describes. Imports no torch."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn

from mobileprune import __version__
from mobileprune.cli.flags import add
from mobileprune.cli.grammar import VERBS
from mobileprune.config import OWNERS, flat, from_dict, read_toml
from mobileprune.errors import UsageError

EXIT_CODES = """exit codes:
  0    done; an audit passed
  1    error
  2    wrong usage or configuration
  3    the audit or a gate of --policy failed, lint found something, or nothing in a sweep keeps to its limits
  4    the audit or a gate of --policy was inconclusive
  5    device or target unavailable
  130  interrupted
  143  ended by SIGTERM
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)  # an abbreviation breaks when an option is added

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {_suggestion(message)}see {self.prog} --help")


def _suggestion(message: str) -> str:
    """``did you mean ...?`` for a flag or verb that argparse does not know."""
    known = {*VERBS, *(name for verb in VERBS.values() for name in verb.flags)}
    wrong = re.search(r"(?:unrecognized arguments: .*?|invalid choice: ')(--[\w-]+|\w+)", message)
    near = difflib.get_close_matches(wrong[1], known, n=1) if wrong else []
    return f"did you mean {near[0]!r}? " if near else ""


def parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="mobileprune",
        description="Prune an image classifier, export it for phones, and re-attack the exported file.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mobileprune {__version__}")
    chosen = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name, verb in VERBS.items():
        sub = chosen.add_parser(
            name,
            help=verb.help,
            description=verb.help,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(sub, verb.own)
        for group in verb.all_groups:
            add(sub.add_argument_group(group.title), group.arguments)
    return top


def options_from(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, flat: those of ``--config``, then those of flags."""
    options: dict[str, Any] = {}
    if getattr(args, "config", None):
        values = read_toml(args.config)
        from_dict(values)  # names every problem of the file
        options = flat(values)
    return options | {key: value for key, value in vars(args).items() if key == "seed" or key in OWNERS}
