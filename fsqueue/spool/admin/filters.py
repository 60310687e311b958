"""Filters lists of calls, for commands and the web page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.spool.format.names import split_profile

if TYPE_CHECKING:
    from fsqueue.spool.admin.listing import CallInfo


class Filters(NamedTuple):
    """Criteria for calls; None matches anything."""

    since: float | None = None
    failed_with: str | None = None
    run: str | None = None
    queue: str | None = None
    task: str | None = None
    worker: str | None = None
    older_than: float = 0.0

    @property
    def implied_state(self) -> str | None:
        """The only state that matching calls can have, if there is just one."""
        return "failed" if self.failed_with else None

    def takes(self, call: CallInfo) -> bool:
        """Whether a call matches."""
        failure = call.failure
        queue = split_profile(call.queue)[0]
        return (
            (self.since is None or (call.age is not None and call.age <= self.since))
            and (
                self.failed_with is None
                or (failure is not None and self.failed_with in {failure.fp, failure.type})
            )
            and (self.run is None or call.id.rpartition("-")[0] == self.run)
            and (call.age or 0.0) >= self.older_than
            and self.task in {None, call.task}
            and self.worker in {None, call.worker}
            and self.queue in {None, queue, queue.partition(".")[2]}
        )
