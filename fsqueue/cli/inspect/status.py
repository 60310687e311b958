"""``fsqueue status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import subcommand
from fsqueue.cli.options import app_option, json_option, root_option
from fsqueue.cli.output import console, print_json
from fsqueue.cli.overview import Overview, status_parts
from fsqueue.cli.target import open_target
from fsqueue.common.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@subcommand("status", "status", "status --root /shared/queue --json")
@app_option
@root_option
@json_option
def command(app: str | None, root: Path | None, as_json: bool) -> None:
    """Show queues, workers, and what ended in the last five minutes.

    This lists every folder of the spool once.
    """
    from fsqueue.spool.worker import space

    with open_target(app, root) as target:
        overview = Overview(target.store, target.app.conf.heartbeat)
        snapshot, recent = overview.refresh()
        if as_json:
            import msgspec

            print_json({**msgspec.structs.asdict(snapshot), "recent": recent})
            return
        for part in status_parts(snapshot, recent):
            console().print(part)
        store, ttl = target.store, target.app.conf.result_ttl
        if full := space.warning(store.fs, store.layout, store.clock.now(), ttl):
            console().print(printable(full))
