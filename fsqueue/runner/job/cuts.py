"""Records the calls that the end of a worker's job interrupts."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.spool.features.cuts import Cut

if TYPE_CHECKING:
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)


class JobEnded(NamedTuple):
    """The end of a worker's job."""

    job: str
    """Its id; empty outside of a batch job."""
    limit: float
    """Seconds from the worker's start until it ended its bodies; 0: unknown."""


def cut_off(store: Store, path: str, name: AttemptName, ended: JobEnded) -> bool:
    """Record that the end of a worker's job interrupts an attempt in the worker's folder.

    Returns:
        Whether this ended the call, which then must not be given back.
    """
    now = store.clock.now()
    try:
        # The rename that claimed the attempt set this time.
        ran = max(0.0, now - store.fs.status(path, follow=False).st_ctime)
    except OSError as error:
        log.info("it is not known how long %s has run: %s", name, error)
        return False
    worker = os.path.basename(os.path.dirname(path))
    limit = max(ended.limit, 0.0)
    cut = Cut(worker=worker, job=ended.job, at=now, ran=round(ran, 3), limit=round(limit, 3))
    return store.recovery.cut_off(path, name, cut)
