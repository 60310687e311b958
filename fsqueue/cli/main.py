"""The ``fsqueue`` command."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from fsqueue.cli import exits
from fsqueue.cli.command import env, print_version
from fsqueue.cli.commands import SECTIONS, module_of
from fsqueue.cli.output import print_error

# The least width, in characters, at which the help page has two columns of commands.
_WIDE = 76


class CommandLine(click.Group):
    """Imports the module of a command only when that command is used.

    A command such as ``fsqueue version`` therefore does not pay for the imports of all the others.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """The names of all commands, section by section."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's interface
        cmd_name: str,
    ) -> click.Command | None:
        """The command of this name, or ``None``."""
        module = module_of(cmd_name)
        if module is None:
            return None
        found: click.Command = importlib.import_module(module).command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; if there is none, suggest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx))
            if not near:
                raise
            meant = " or ".join(map(repr, near))
            raise click.UsageError(f"{error.message} Did you mean {meant}?", ctx) from error

    def format_help(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's interface
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the help page, which fits on one screen of 24 lines."""
        formatter.write("Usage: fsqueue COMMAND [ARGUMENT | OPTION]...\n")
        formatter.write(f"{self.help}\n\n")
        cells = {
            title: [f"{name:<11}{words}" for name, words in commands.items()]
            for title, commands in SECTIONS.items()
        }
        wide = formatter.width >= _WIDE
        width = max(len(cell) for column in cells.values() for cell in column) + 2
        for title, column in cells.items():
            rows = column
            if wide:  # two columns, to be read downwards
                half = (len(column) + 1) // 2
                second = [*column[half:], ""]
                rows = [f"{a:<{width}}{b}" for a, b in zip(column[:half], second, strict=False)]
            for number, row in enumerate(rows):
                formatter.write(f"{'' if number else title:<10}{row}".rstrip() + "\n")
        formatter.write("\nOptions and examples: fsqueue COMMAND -h. ")
        formatter.write("Version: fsqueue --version\n")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with the exit code that shells expect."""
        _check_variables()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(exits.INTERRUPTED) from None


def _check_variables() -> None:
    """Print a notice about variables that look like flags of a command that does not exist."""
    for name in sorted(os.environ):
        command, separator, _ = name.removeprefix(env("")).partition("__")
        is_flag = name.startswith(env("")) and separator and command != "TASK"
        if is_flag and module_of(command.lower()) is None:
            print_error(f"{name} is ignored: there is no command {command.lower()!r}")


def _version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        print_version(ctx)


@click.group(
    cls=CommandLine,
    name="fsqueue",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Print the version and exit.",
)
def command_line() -> None:
    """Run Python functions on other machines that share a directory with this one."""
