"""``fsqueue status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import subcommand
from fsqueue.cli.options import json_option, on_target
from fsqueue.cli.output import console, print_json
from fsqueue.cli.overview import looks, status_parts

if TYPE_CHECKING:
    from fsqueue.cli.finding.target import Target


@subcommand("status", "status", "status --root /shared/queue --json")
@on_target
@json_option
def command(target: Target, as_json: bool) -> None:
    """Show queues, when they will be empty, workers, and what ended in the last five minutes.

    A worker keeps the counts in a file, which this command reads. Without a worker, the command
    counts by itself. With very many folders, it lists only some, and marks estimates with ~.
    """
    from fsqueue.spool.admin.glance import as_document

    looking = looks(target)
    glance = looking.look()
    age = looking.age(glance)
    if as_json:
        print_json(as_document(glance, age))
        return
    for part in status_parts(glance, age):
        console().print(part)
