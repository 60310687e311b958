"""`Executor.map`: one call of the queue for each chunk of items."""

from __future__ import annotations

import contextvars
import functools
import math
import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from fsqueue.calls.batching import LARGEST_UNKNOWN, SLOT_SHARE, TARGET, WEIGHT
from fsqueue.codec import decode_exception
from fsqueue.common.coroutines import is_async
from fsqueue.common.values import plain
from fsqueue.executor.calls import failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent import futures

    from fsqueue.executor.body import ChunkResult
    from fsqueue.executor.calls import Calls
    from fsqueue.results.futures import CallFuture

    Item = tuple[Any, ...]
    Submit = Callable[[Sequence[Item]], CallFuture[Any]]

# Seconds of work in a chunk below which the cost of its files matters.
_LEAST: Final = 0.01


class Sizes:
    """Chunk sizes: how many items a call takes, and how many calls are made ahead of the results.

    Args:
        chunksize: number of items, or "auto".
        buffersize: number of calls; None: all.
        slots: number of calls that can run at a time.

    Raises:
        TypeError: `buffersize` or `chunksize` is not a number.
        ValueError: a number is not greater than 0.
    """

    def __init__(
        self, chunksize: int | Literal["auto"], buffersize: int | None, slots: int
    ) -> None:
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if chunksize != "auto":
            if not isinstance(plain(chunksize), int):
                raise TypeError(f"chunksize = {chunksize!r}, expected a whole number or 'auto'")
            if chunksize < 1:
                raise ValueError("chunksize must be >= 1, or 'auto'")
        self.buffersize: int | None = buffersize
        self.slots: int = slots
        self.chunksize = 1 if chunksize == "auto" and buffersize else chunksize
        self._seconds: float | None = None

    @property
    def ahead(self) -> int:
        """The number of calls that keeps all slots busy."""
        return 2 * self.slots

    def learn(self, items: int, seconds: float) -> None:
        """Record how long a chunk took."""
        each = seconds / max(1, items)
        known = each if self._seconds is None else self._seconds
        self._seconds = known + WEIGHT * (each - known)

    def next(self, left: int) -> int:
        """The number of items in the next chunk, with "auto".

        Args:
            left: number of items without a call.
        """
        fair = max(1, math.ceil(left / (SLOT_SHARE * self.slots)))
        if self._seconds is None:
            return min(fair, LARGEST_UNKNOWN)
        each = max(self._seconds, 1e-9)
        return max(1, min(max(fair, int(_LEAST / each)), int(TARGET / each), left))


def mapped(
    calls: Calls,
    fn: Callable[..., Any],
    items: Iterator[Item],
    sizes: Sizes,
    timeout: float | None,
) -> Iterator[Any]:
    """Make the calls, and return the iterator over their values.

    Args:
        calls: makes the calls.
        items: the arguments of each call of the function.
        sizes: chooses the chunk sizes.
        timeout: see `Executor.map`.
    """
    deadline = None if timeout is None else timeout + time.monotonic()
    if is_async(fn):  # a worker awaits whole calls only

        def submit_one(chunk: Sequence[Item]) -> CallFuture[Any]:
            return calls.submit(fn, chunk[0], {})

        return _yielded(_Fixed(submit_one, items, 1, sizes.buffersize), deadline, plain=True)
    try:
        function = calls.function(fn)
    except Exception as error:  # noqa: BLE001 - reading the first value raises it
        return _yielded(_Failed(error), deadline)
    submit = functools.partial(calls.submit_chunk, function)
    if sizes.chunksize == "auto":
        late = functools.partial(submit, late=True)  # a shutdown waits for all items
        return _yielded(_Adaptive(late, list(items), sizes), deadline)
    return _yielded(_Fixed(submit, items, sizes.chunksize, sizes.buffersize), deadline)


class _Source(Protocol):
    """The futures of a map, in the order of the items."""

    def next(self) -> CallFuture[Any] | None:
        """The next future; None after the last."""

    def cancel(self) -> None:
        """Cancel the futures that `next` has not returned."""


class _Failed:
    """The source of a map whose function cannot be serialized."""

    def __init__(self, error: Exception) -> None:
        self._futures = [failed(error)]

    def next(self) -> CallFuture[Any] | None:
        return self._futures.pop() if self._futures else None

    def cancel(self) -> None:
        pass


class _Fixed:
    """Chunks of a fixed size.

    Args:
        submit: makes the call of a chunk.
        size: number of items in a chunk.
        ahead: number of calls that are made ahead of the results; None: all.
    """

    def __init__(self, submit: Submit, items: Iterator[Item], size: int, ahead: int | None) -> None:
        self._submit, self._items, self._size, self._ahead = submit, items, size, ahead
        self._futures: deque[CallFuture[Any]] = deque()
        while (ahead is None or len(self._futures) < ahead) and self._submit_next():
            pass

    def _submit_next(self) -> bool:
        chunk = tuple(islice(self._items, self._size))
        if chunk:
            self._futures.append(self._submit(chunk))
        return bool(chunk)

    def next(self) -> CallFuture[Any] | None:
        if self._ahead is not None and self._futures:
            self._submit_next()
        return self._futures.popleft() if self._futures else None

    def cancel(self) -> None:
        while self._futures:
            self._futures.popleft().cancel()


class _Adaptive:
    """Chunks whose size is adapted as the first ones end and show how long an item takes.

    Args:
        submit: makes the call of a chunk.
        sizes: chooses the sizes.
    """

    def __init__(self, submit: Submit, items: list[Item], sizes: Sizes) -> None:
        self._submit, self._items, self._sizes = submit, items, sizes
        self._change = threading.Condition(threading.RLock())
        self._futures: deque[CallFuture[Any]] = deque()
        self._begun = self._ended = self._taken = 0
        self._fills = False
        self._context = contextvars.copy_context()
        self._fill()

    def _fill(self) -> None:
        """Make calls until there are enough for all slots."""
        with self._change:
            if self._fills:
                return  # called by the loop below, for a call that ended at once
            self._fills = True
            try:
                while (
                    self._taken < len(self._items) and self._begun - self._ended < self._sizes.ahead
                ):
                    size = self._sizes.next(len(self._items) - self._taken)
                    chunk = self._items[self._taken : self._taken + size]
                    self._taken += len(chunk)
                    self._begun += 1
                    future = self._submit(chunk)
                    self._futures.append(future)
                    future.add_done_callback(functools.partial(self._note_end, len(chunk)))
            finally:
                self._fills = False
            if self._taken >= len(self._items):
                self._items, self._taken = [], 0
            self._change.notify_all()

    def _note_end(self, count: int, future: futures.Future[ChunkResult]) -> None:
        with self._change:
            self._ended += 1
            if future.cancelled():
                self._items, self._taken = [], 0
            elif future.exception() is None:
                values, _, seconds = future.result()
                self._sizes.learn(count, seconds)
                del values
            # This is the resolver's thread; use the context of the code that called `map`.
            self._context.copy().run(self._fill)

    def next(self) -> CallFuture[Any] | None:
        with self._change:
            self._change.wait_for(lambda: self._futures or not self._items)
            return self._futures.popleft() if self._futures else None

    def cancel(self) -> None:
        with self._change:
            self._items, self._taken = [], 0
            left = list(self._futures)
            self._futures.clear()
        for future in left:
            future.cancel()


def _yielded(source: _Source, deadline: float | None, *, plain: bool = False) -> Iterator[Any]:
    """Yield the values of a map, and cancel the remaining calls if the reader stops early."""
    try:
        while (future := source.next()) is not None:
            result = _result_of(future, deadline)
            del future
            if plain:
                yield result
                continue
            values, error, _ = result
            del result
            values.reverse()
            while values:
                yield values.pop()
            if error is not None:
                raise decode_exception(error)
    finally:
        source.cancel()


def _result_of(future: CallFuture[Any], deadline: float | None) -> Any:
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future
