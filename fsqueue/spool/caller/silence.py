"""Notices that no results come, and then looks whether any worker serves the calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log: logging.Logger = logging.getLogger(__name__)

# Seconds without results before the first look, and between two looks at most.
_FIRST, _LONGEST = 3.0, 60.0


class Silence:
    """The time in which a process waits and no results come. A signal handler may interrupt it.

    Args:
        check: checks, before each look, that the folder still holds this spool.
        look: looks for workers; returns whether no further look is needed.
        remote: whether the spool is on a network filesystem, where a look costs several requests:
            the next one follows after a minute.
    """

    def __init__(
        self, check: Callable[[], object], look: Callable[[], bool], *, remote: bool
    ) -> None:
        self._check, self._look, self._remote = check, look, remote
        self._since, self._lasts = float("inf"), _FIRST

    def begin(self, now: float) -> None:
        """Begin again, because a wait begins or a result has come."""
        self._since, self._lasts = now, _FIRST

    @property
    def ends(self) -> float:
        """When the next look is due, by the monotonic clock."""
        return self._since + self._lasts

    def look_if_due(self, now: float) -> None:
        """Look, if nothing has come for long enough.

        Args:
            now: the time of the next poll, so that a look that is due before comes with this one.

        Raises:
            SpoolReplacedError: the folder holds another spool.
        """
        if now < self.ends:
            return
        self._lasts = min(2 * self._lasts, _LONGEST)
        over, self._since = False, float("inf")  # so that no other thread looks meanwhile
        try:
            self._check()
            over = self._look()
            if self._remote:
                self._lasts = _LONGEST
        except OSError as error:
            log.warning("cannot check for workers: %s", error)
        finally:
            self._since = float("inf") if over else now
