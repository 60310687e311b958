"""The states of an invocation."""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """The state of an invocation."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the invocation has an outcome."""
        return self not in {State.PENDING, State.RUNNING}
