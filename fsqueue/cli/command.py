"""The building blocks of a command: its class, its options and its arguments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIX: Final = "FSQUEUE_CLI_"


def env(flag: str) -> str:
    """The environment variable that sets a flag, such as ``FSQUEUE_CLI_LIST_STATE``."""
    return _PREFIX + flag.upper().replace("-", "_")


class Command(click.Command):
    """A command of ``fsqueue``.

    Each option can also be set in the environment. An option that names no variable gets one from
    its command and its flag: ``--state`` of ``list`` is ``FSQUEUE_CLI_LIST_STATE``. Variables are
    named here so that an option cannot be added without one.
    """

    def __init__(self, name: str | None, *, path: str = "", **attributes: Any) -> None:
        super().__init__(name, **attributes)
        prefix = path.replace(" ", "-")
        for parameter in self.params:
            if isinstance(parameter, click.Option) and parameter.envvar is None:
                parameter.envvar = env(f"{prefix}-{parameter.opts[0].removeprefix('--')}")

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page, which looks the same with every version of click."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Describe the arguments, then the options."""
        records: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                is_option = isinstance(parameter, click.Option)
                records["Options" if is_option else "Arguments"].append(record)
        for title, rows in records.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Argument(click.Argument):
    """A positional argument with a help text, which click itself has only since 8.5."""

    def __init__(self, *declarations: Any, help: str, **attributes: Any) -> None:  # noqa: A002
        super().__init__(*declarations, **attributes)
        self.help: str = help

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Name and description, as the help page shows them."""
        return self.make_metavar(ctx), f"{self.help}  [required]" if self.required else self.help


def subcommand(name: str) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command; its docstring is the help page.

    Args:
        name: the words after ``fsqueue``.
    """
    return click.command(name.rpartition(" ")[2], cls=Command, path=name)


argument = partial(click.argument, cls=Argument)
option = partial(click.option, show_envvar=True, show_default=True)
flag = partial(option, is_flag=True)
