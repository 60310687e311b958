"""Prints tables, JSON documents and messages, for all commands."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fsqueue.common.printable import indented, printable
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

# Wide enough for any table: a program that reads a pipe needs whole names.
_PIPE_WIDTH = 1000


def console() -> Console:
    """Standard output. If it is not a terminal, lines are not wrapped."""
    from rich.console import Console

    return Console(
        width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False
    )


def print_json(value: object) -> None:
    """Print one JSON document."""
    import msgspec

    try:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        text = json.dumps(msgspec.to_builtins(value), indent=2)
    if not text.replace("\n", "").isprintable():
        # JSON does not escape all characters that control a terminal. All of them are in strings.
        text = "".join(
            each if each.isprintable() or each == "\n" else _escaped(each) for each in text
        )
    print(text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def print_outcome(document: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """Print what a command has done: as a JSON document, or in words."""
    if as_json:
        print_json(document)
    else:
        print(text)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, with numbers right-aligned."""
    console().print(table(heads, rows))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table, with numbers right-aligned."""
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, head in enumerate(heads):
        numbers = all(isinstance(row[index], int) for row in rows)
        made.add_column(head, justify="right" if rows and numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(str(each))) for each in row))
    return made


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one per line. Values that are None or empty are left out."""
    shown = [(name, value) for name, value in pairs if value not in {None, ""}]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {printable(str(value))}")


def print_error(message: str, details: str = "") -> None:
    """Print a message to standard error, and the details below it, indented."""
    print(f"fsqueue: {printable(message)}", file=sys.stderr)
    if details:
        print(f"\n{indented(details)}", file=sys.stderr)


def confirm(question: str) -> None:
    """Ask the user to confirm; returns only if the answer is yes.

    Raises:
        ConfigError: there is no terminal to ask at.
        click.exceptions.Exit: the answer is no.
    """
    import click

    from fsqueue.cli import exits

    if not sys.stdin.isatty():
        raise ConfigError(f"{question} There is no terminal to ask; give --yes")
    if not click.confirm(question, err=True):
        print_error("nothing was done")
        raise click.exceptions.Exit(exits.NEGATIVE)


def printable_output(text: str) -> str:
    """The output of a body, made printable. A carriage return becomes a new line."""
    return printable(text.replace("\r\n", "\n").replace("\r", "\n"), keep="\n\t")


def as_json(value: Any) -> Any:
    """The value with every part that JSON cannot represent replaced by its `repr`."""
    try:
        return json.loads(json.dumps(value, default=repr))
    except (TypeError, ValueError, RecursionError):
        return repr(value)
