"""The building blocks of a command: its class, its options and its arguments."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from fsqueue.cli.output import print_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Decorator: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"
"""A decorator that adds an option or an argument to the function of a command."""

_PREFIX: Final = "FSQUEUE__"
_FORMER_PREFIX: Final = "FSQUEUE_CLI_"


def env(*words: str) -> str:
    """The environment variable of a flag: ``FSQUEUE__LIST__STATE`` for ``list`` and ``state``."""
    return _PREFIX + "__".join(words).upper().replace("-", "_")


def former_env(variable: str) -> str:
    """The name that the variable of a flag had before flags and settings got one prefix."""
    return _FORMER_PREFIX + variable.removeprefix(_PREFIX).replace("__", "_")


class Option(click.Option):
    """An option of a command, which can also be set in the environment.

    Args:
        is_setting: whether its variable is that of a setting, which the application itself reads.
    """

    def __init__(self, *declarations: Any, is_setting: bool = False, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self._is_setting = is_setting

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The text in the environment, or under the variable's old name, with a notice."""
        value = None if self._is_setting else super().resolve_envvar_value(ctx)
        if value is not None:
            return value
        former = former_env(str(self.envvar))
        value = os.environ.get(former) or None
        if value is not None and not ctx.resilient_parsing:
            print_error(f"{former} is now called {self.envvar}; please rename it")
        return value


class Page(click.Command):
    """A command with a help page that is the same for every version of click, and has examples.

    Args:
        path: the words after ``fsqueue``.
        examples: command lines, without ``fsqueue``.
    """

    def __init__(
        self, name: str | None, *, path: str = "", examples: Sequence[str] = (), **attributes: Any
    ) -> None:
        super().__init__(name, **attributes)
        self.path: str = path or str(name)
        self.examples: tuple[str, ...] = tuple(
            e if "fsqueue " in e else f"fsqueue {e}" for e in examples
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. ``--version`` must be the first, as tasks may have it, too."""
        if args[:1] == ["--version"]:
            print_version(ctx)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help page."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Command(Page):
    """A command of ``fsqueue``.

    Each option can also be set in the environment. An option that names no variable gets one from
    its command and its flag: ``--state`` of ``list`` is ``FSQUEUE__LIST__STATE``. Variables are
    named here so that an option cannot be added without one.
    """

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        for parameter in self.params:
            if isinstance(parameter, click.Option) and parameter.envvar is None:
                parameter.envvar = env(*self.path.split(), parameter.opts[0].removeprefix("--"))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, after a notice about variables that look like its flags but are not."""
        known = {parameter.envvar for parameter in self.params}
        for name in sorted(os.environ):
            if name.startswith(f"{env(*self.path.split())}__") and name not in known:
                print_error(f"{name} is ignored: `fsqueue {self.path}` has no such option")
        return super().invoke(ctx)

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


def subcommand(name: str, *examples: str, **attributes: Any) -> Callable[..., Command]:
    """Make a function a command; its docstring is the help page.

    Args:
        name: the words after ``fsqueue``.
        examples: command lines for the help page, without ``fsqueue``.
        attributes: more arguments of the command.
    """
    last = name.rpartition(" ")[2]
    return click.command(last, cls=Command, path=name, examples=examples, **attributes)


def print_version(ctx: click.Context) -> None:
    """Print the version, and end the command."""
    from fsqueue import __version__

    if not ctx.resilient_parsing:
        click.echo(__version__)
        ctx.exit()


def argument(*declarations: str, **attributes: Any) -> Decorator:
    """Add a positional argument to a command."""
    return click.argument(*declarations, cls=Argument, **attributes)


def option(*declarations: str, **attributes: Any) -> Decorator:
    """Add an option to a command."""
    return click.option(*declarations, **{"cls": Option, "show_default": True, **attributes})


def flag(*declarations: str, **attributes: Any) -> Decorator:
    """Add an option without a value to a command."""
    return option(*declarations, is_flag=True, **attributes)
