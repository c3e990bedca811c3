"""Text and tables on stdout."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mobileprune.errors import printable
from mobileprune.report.tables import Rows

PIPE_WIDTH = 200  # a pipe has no width to fold to


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """Called where the error is handled. ``shown`` knows what to do; rich would end the process."""
        raise


def print_table(rows: Rows, title: str) -> None:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2), header_style="bold")
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    _Stdout(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def plain_rows(rows: Rows) -> Rows:
    return [tuple(map(plain, row)) for row in rows]


def plain(text: str) -> str:
    """Of a stranger's file: without what a terminal or rich would obey."""
    return escape(printable(text))
