"""``fsqueue top``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from fsqueue.cli.command import option, subcommand
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import console, print_json
from fsqueue.cli.overview import looks, top_parts

if TYPE_CHECKING:
    from fsqueue.cli.finding.target import Target
    from fsqueue.spool.admin.glance import Looks

_SHORTEST_PAUSE = 0.1


@subcommand("top", "top", "top --interval 10")
@on_target
@option(
    "--interval",
    type=seconds(least=_SHORTEST_PAUSE),
    default="2",
    metavar="DURATION",
    help="Time between two updates, at least 0.1 seconds.",
)
@json_option
def command(target: Target, interval: float, as_json: bool) -> None:
    """Show queues, workers and the busiest tasks, updated until q or Ctrl-C.

    The key h lists all keys: tables can be sorted, folded, filtered and scrolled, and Enter shows
    everything about a row. If the output is not a terminal, each update is printed below the
    previous one. With --json, the document of `fsqueue status` is printed once.

    NO_COLOR in the environment turns colours off.
    """
    from fsqueue.cli.screen import application
    from fsqueue.spool.admin.glance import as_document

    looking = looks(target)
    try:
        if as_json:
            glance = looking.look()
            print_json(as_document(glance, looking.age(glance)))
        elif application.can_run():
            application.run(looking, interval)
        else:
            _print(looking, interval)
    except KeyboardInterrupt:
        return


def _print(looking: Looks, interval: float) -> None:
    """Print the figures again and again."""
    while True:
        glance = looking.look()
        for part in top_parts(glance, looking.age(glance)):
            console().print(part)
        print()
        sys.stdout.flush()
        time.sleep(interval)
