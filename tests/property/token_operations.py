"""Tokens, by which an NFSv4 server wakes sleepers, for the sweep of every call.

They only save time. So an error of theirs reaches nobody, and what a dead process leaves is gone
with its client, or after an hour.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chore_sweep import Chore, check_presence
from every_call import USUAL
from fact_operations import without_error
from sweep import CLIENT, REMOTE, Stage
from sweep_operations import Operation
from sweep_steps import present_client

from fsqueue.spool.disk.leases import Told
from fsqueue.spool.wakeups.rings import Ringer

if TYPE_CHECKING:
    from collections.abc import Container

    from sweep import Mount

GONE = "gone.1"


class Inline(Ringer):
    """Rings in the thread that publishes, so that this one dies."""

    def _start(self, function, *args):
        try:
            function(*args)
        except OSError:
            return True  # a thread would log it
        return True


def pushing(stage: Stage) -> None:
    stage.store.push()


def present(stage: Stage) -> None:
    pushing(stage)
    present_client(stage)


def sleep(stage: Stage) -> None:
    """From the making of a token to its end: it is not wanted any more when it is there."""
    token = stage.store.files.sleepers.token(CLIENT, lambda: CLIENT, 0.1, lambda: None)
    # The lease is never recalled, so no signal comes.
    token.take(Told(threading.get_native_id(), signal.SIGRTMAX))
    token.end()


def left_behind(stage: Stage) -> None:
    present(stage)
    Path(stage.layout.tokens(CLIENT), GONE).touch()


def ring(stage: Stage) -> None:
    files = stage.store.files
    Inline(stage.fs, files.make_folders, 0.0).ring(stage.layout.tokens(CLIENT))


def check_folder(stage: Stage, contents: Container[bytes]) -> None:
    check_presence(stage, contents)
    assert os.path.isdir(stage.layout.tokens(CLIENT)), "workers have heard that it is missing"


@dataclass(frozen=True)
class TokenChore(Chore):
    mounts: tuple[Mount, ...] = (REMOTE,)

    def faults(self, mount: Mount) -> frozenset[str]:
        return USUAL if mount == REMOTE else frozenset()


TOKENS = tuple(
    map(
        TokenChore,
        (
            Operation("appear-to-be-woken", pushing, present_client, check=check_folder),
            Operation("sleep", present, without_error(sleep)),
            Operation("ring", left_behind, without_error(ring)),
            Operation("close-after-sleep", left_behind, lambda stage: stage.client.close()),
        ),
    )
)
