"""``fsqueue completion``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click
from click.shell_completion import get_completion_class

from fsqueue.cli.command import argument, subcommand

if TYPE_CHECKING:
    from click.shell_completion import ShellComplete

_SHELLS = ("bash", "zsh", "fish")


@subcommand(
    "completion",
    'eval "$(fsqueue completion bash)"    # in ~/.bashrc',
    'eval "$(fsqueue completion zsh)"     # in ~/.zshrc, after compinit',
    "fsqueue completion fish > ~/.config/fish/completions/fsqueue.fish",
)
@argument("shell", type=click.Choice(_SHELLS), metavar="|".join(_SHELLS), help="The shell.")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script with which a shell completes commands when TAB is pressed.

    It completes commands, options, ids of calls, and the names of applications, tasks, queues and
    workers. They come from the sources in the current folder and from the spool. No code of the
    application is run.
    """
    made = cast("type[ShellComplete]", get_completion_class(shell))
    script = made(context.find_root().command, {}, "fsqueue", "_FSQUEUE_COMPLETE")
    click.echo(script.source())
