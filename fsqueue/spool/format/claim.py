"""Claims: attempts that workers hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.common.logs import tags

if TYPE_CHECKING:
    from fsqueue.spool.format.names import AttemptName


class Claim(NamedTuple):
    """An attempt that a worker holds."""

    name: AttemptName
    path: str
    """Its file in the worker's folder."""
    origin: str
    """Its path while it was pending."""
    worker: str
    text: str
    """The name as text."""
    record: bytes | None = None
    """The content of its file if that is a link, which is read before it is claimed."""

    @property
    def tags(self) -> dict[str, Any]:
        """Extra fields for log records about this attempt."""
        return tags(self.name.invocation_id, self.name.attempt, worker=self.worker)
