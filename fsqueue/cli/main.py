"""The ``fsqueue`` command."""

from __future__ import annotations

import typer

from fsqueue import __version__
from fsqueue.cli.doctor import doctor
from fsqueue.cli.worker import worker

app = typer.Typer(
    name="fsqueue",
    help="Run functions of other processes, with nothing but a shared directory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(worker)
app.command()(doctor)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)
