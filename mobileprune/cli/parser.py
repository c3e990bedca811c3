"""The parser that the grammar describes. Imports no torch."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
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
        raise UsageError(f"{message}; see {self.prog} --help")


class _Top(_Parser):
    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(\w+)'", message)
        super().error(message + (_near(wrong[1], VERBS) if wrong else ""))


class _OfVerb(_Parser):
    """Of one verb, which alone can tell what a flag that it does not know is like."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_suggestion(self.prog.split()[-1], unknown)}")
        return found, unknown


def _suggestion(verb: str, unknown: list[str]) -> str:
    """About the first flag among what ``verb`` does not know: that only others take it, or what it is like."""
    wrong = next((name for each in unknown if (name := each.partition("=")[0]).startswith("--")), "")
    if any(wrong in other.flags for other in VERBS.values()):
        return f"; {verb} has no {wrong}"
    return _near(wrong, VERBS[verb].flags)


def _near(wrong: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def parser() -> argparse.ArgumentParser:
    top = _Top(
        prog="mobileprune",
        description="Prune an image classifier, export it for phones, and re-attack the exported file.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mobileprune {__version__}")
    chosen = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_OfVerb)
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
