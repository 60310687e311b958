"""Publishes the answer of a body, or an error in place of a result that cannot be stored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from fsqueue.errors import RemoteError, ResultTooLargeError, StorageError
from fsqueue.runner.attempt.bodies import Answer
from fsqueue.spool.disk.capacity import check_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.context import Execution

log = logging.getLogger(__name__)

PATIENCE: Final = 300.0
"""Seconds to wait for room for a result, on a disk that has room for others."""


class Publication:
    """The publication of one answer. Called again until the shared directory accepts it.

    A result that can never be stored is replaced by a small failure that reports this. The same
    happens to a result that does not fit for `PATIENCE` seconds although the disk has room for
    smaller files. On a completely full disk the result waits for as long as its worker lives.

    Triggers fire before the answer is published, so its size is checked before that. A result that
    fails later may have fired `on_result` already.

    Args:
        execution: the call.
        answer: the answer of its body.
        publish: publishes an answer; may raise `OSError`, and is then called again.
    """

    def __init__(
        self, execution: Execution, answer: Answer, publish: Callable[[Execution, Answer], None]
    ) -> None:
        self._execution, self._answer, self._publish = execution, answer, publish
        self._replaced = answer.retry_after is not None and not execution.call.members
        self._since: float | None = None

    def __call__(self) -> None:
        """Publish it.

        Raises:
            OSError: the shared directory does not take it now.
        """
        try:
            self._attempt()
        except StorageError as error:
            if self._replaced or not self._is_hopeless(error):
                raise
            claim = self._execution.claim
            log.error("%s: its result cannot be stored: %s", claim.name, error, extra=claim.tags)  # noqa: TRY400 - a traceback adds nothing
            self._answer = _instead_of(self._answer, self._execution, error)
            self._replaced = True
            self._attempt()

    def _attempt(self) -> None:
        store, answer = self._execution.context.store, self._answer
        if not self._replaced:
            size = sum(map(len, answer.payload)) + sum(map(len, answer.buffers))
            check_size(store.fs, store.layout.root, size)
        self._publish(self._execution, answer)

    def _is_hopeless(self, error: StorageError) -> bool:
        now = self._execution.context.store.fs.monotonic()
        if not error.alone:
            self._since = None
        elif self._since is None:
            self._since = now
        return error.never or (self._since is not None and now - self._since > PATIENCE)


def _instead_of(answer: Answer, execution: Execution, error: StorageError) -> Answer:
    """The failure that replaces an answer that does not fit."""
    call = execution.call
    batch = (
        f" All {call.members} results of the batch share that file: try a smaller "
        "parallel_batch_size."
        if call.members
        else ""
    )
    if answer.failure is not None and not call.members:
        message = (
            f"{answer.failure.message} (the exception itself cannot be stored: {error.strerror})"
        )
        return Answer.of_error(RemoteError(answer.failure.type, message), call.codec)
    return Answer.of_queue(
        ResultTooLargeError(
            f"the result of {call.task} (invocation {call.id}) cannot be stored: "
            f"{error.strerror}.{batch} Return less, or write the data to a file of your own and "
            "return its path."
        )
    )
