"""``fsqueue top``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from fsqueue.cli.command import option, subcommand
from fsqueue.cli.finding.target import open_target
from fsqueue.cli.options import app_option, root_option, seconds
from fsqueue.cli.output import console
from fsqueue.cli.overview import looks, top_parts

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Group

_SHORTEST_PAUSE = 0.1


@subcommand("top", "top", "top --interval 10")
@app_option
@root_option
@option(
    "--interval",
    type=seconds(least=_SHORTEST_PAUSE),
    default="2",
    metavar="DURATION",
    help="Time between two updates, at least 0.1 seconds.",
)
def command(app: str | None, root: Path | None, interval: float) -> None:
    """Show the status and the busiest tasks, updated until Ctrl-C."""
    from rich.console import Group
    from rich.live import Live

    with open_target(app, root) as target:
        looking = looks(target)

        def frame() -> Group:
            glance = looking.look()
            return Group(*top_parts(glance, looking.age(glance)))

        try:
            screen = sys.stdout.isatty()
            with Live(frame(), console=console(), auto_refresh=False, screen=screen) as live:
                while True:
                    time.sleep(interval)
                    live.update(frame(), refresh=True)
        except KeyboardInterrupt:
            return
