"""``fsqueue version``."""

from __future__ import annotations

from fsqueue import __version__
from fsqueue.cli.command import subcommand
from fsqueue.cli.options import json_option
from fsqueue.cli.output import print_json


@subcommand("version", "version --json")
@json_option
def command(as_json: bool) -> None:
    """Print the version of fsqueue."""
    if as_json:
        print_json({"version": __version__})
    else:
        print(__version__)
