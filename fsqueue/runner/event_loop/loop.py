"""The event loop in which this process runs coroutine bodies.

There is one loop for the life of the process, so objects that a module keeps between calls (a
connection, an `asyncio.Lock`) stay usable, as in any asyncio program. The loop has a separate
thread. The thread of a slot starts a coroutine there and waits for it, so a worker never runs more
coroutines than it has slots.

A body may also wait for another call without `await`. That would block the loop, and the call
that it waits for may be a coroutine of the same loop. So `aside` lets another thread drive the
loop in the meantime. At any time exactly one thread drives it, and the loop moves to another thread
only between two callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import os
import threading
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fsqueue.common.offloading import when_threads_start
from fsqueue.runner.event_loop.cleanup import CLEANUP
from fsqueue.runner.event_loop.watch import LoopWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log: logging.Logger = logging.getLogger(__name__)

# `asyncio.to_thread` in one body must not wait for threads that other bodies block.
_MANY_THREADS = 256
# Seconds between two checks of a waiting slot for an order to interrupt its coroutine.
_POLL = 0.25

_run_here: contextvars.ContextVar[BodyRun | None] = contextvars.ContextVar(
    "fsqueue_body_run", default=None
)


class BodyRun:
    """One coroutine body in the event loop.

    Args:
        label: names the call in the log.
        function: called in the loop; if it returns an awaitable, that is awaited.
        args: its arguments.
    """

    def __init__(
        self,
        label: str,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
    ) -> None:
        self.label = label
        self._function, self._args = function, args
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self._value: Any = None
        # Remains if the coroutine is cancelled before its first step.
        self._error: BaseException | None = asyncio.CancelledError()
        self._over = threading.Event()
        self._loop = loop = process_loop()
        loop.add(self)

    def result(self, while_waiting: Callable[[], None] = lambda: None) -> Any:
        """Wait for the value, or raise what the body raised.

        Args:
            while_waiting: called about four times a second during the wait.
        """
        while not self._over.wait(_POLL):
            if self._loop.closed:
                raise RuntimeError(f"{self.label}: a body has closed the event loop of its worker")
            while_waiting()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it refers to this frame
        return self._value

    def wait(self, timeout: float) -> bool:
        """Wait for its end; False if it has not ended after `timeout` seconds."""
        return self._over.wait(timeout)

    def cancel(self) -> None:
        """Cancel it, from any thread, and again every `CLEANUP` seconds until it ends."""
        self._loop.call(self._cancel)

    # -- in the loop ---------------------------------------------------------------------

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start it as a task of the loop."""
        _run_here.set(self)
        self._task = loop.create_task(self._body(), name=self.label)
        self._task.add_done_callback(lambda _: self._end())

    def own(self, task: asyncio.Task[Any]) -> None:
        """Add a task that it, or a task of it, has created."""
        self._tasks.add(task)

    def owns(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a task is its own task, or one that it has created."""
        return task in self._tasks

    def _end(self) -> None:
        self._loop.remove(self)
        self._over.set()

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._cancelled = True
            self._task.cancel()
            self._task.get_loop().call_later(CLEANUP, self._cancel)

    async def _body(self) -> None:
        # SystemExit and KeyboardInterrupt belong to the call, but would end the loop from a task.
        try:
            value = self._function(*self._args)
            self._value = await value if inspect.isawaitable(value) else value
            self._error = None
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            self._error = error
        if self._cancelled:
            with contextlib.suppress(asyncio.CancelledError):
                await self.cancel_tasks()

    async def cancel_tasks(self) -> None:
        """Cancel the tasks that it has started and not awaited."""
        await _cancelled([each for each in self._tasks if each is not asyncio.current_task()])


async def _cancelled(tasks: list[asyncio.Task[Any]]) -> None:
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=CLEANUP)


class BodyLoop:
    """An event loop that one thread at a time drives.

    Raises:
        RuntimeError: this process cannot start another thread.
    """

    def __init__(self) -> None:
        # No other implementation, such as uvloop: `aside` depends on the internals of this one.
        self._loop = loop = asyncio.SelectorEventLoop()
        loop.set_task_factory(self._make_task)
        loop.set_default_executor(
            ThreadPoolExecutor(_MANY_THREADS, thread_name_prefix="fsqueue-async")
        )
        self._runs: set[BodyRun] = set()
        self._mutex = threading.Lock()
        self._next: deque[threading.Event] = deque()
        self._watch = LoopWatch(loop, self._whose)
        try:
            self._drive_in_thread()
        except RuntimeError:
            loop.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether it is closed and can no longer run anything."""
        return self._loop.is_closed()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, soon."""
        with contextlib.suppress(RuntimeError):  # it is closed; `BodyRun.result` notices that
            self._loop.call_soon_threadsafe(function)

    def add(self, run: BodyRun) -> None:
        """Begin a run, in the context of the caller."""
        self._runs.add(run)
        self._watch.wake()
        context = contextvars.copy_context()
        self._loop.call_soon_threadsafe(run.begin, self._loop, context=context)

    def remove(self, run: BodyRun) -> None:
        """Remove a run that has ended."""
        self._runs.discard(run)
        if not self._runs:
            self._watch.rest()
            if self._runs:  # another one has begun in between
                self._watch.wake()

    def _whose(self, task: asyncio.Task[Any] | None) -> str:
        """The label of the call that a task belongs to."""
        return next((run.label for run in list(self._runs) if run.owns(task)), "a callback")

    @staticmethod
    def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        run = _run_here.get()
        if run is not None:
            run.own(task)
        return task

    # -- driving --------------------------------------------------------------------------

    def _drive_in_thread(self) -> None:
        threading.Thread(target=self._drive, name="fsqueue-loop", daemon=True).start()

    def _drive(self) -> None:
        while not self._loop.is_closed():
            try:
                self._loop.run_forever()  # a body may stop it
            except BaseException:
                # SystemExit or KeyboardInterrupt, raised in a task that a body has not awaited.
                log.exception("a task in the event loop wanted to end the worker")
            with self._mutex:
                following = self._next.popleft() if self._next else None
            if following is not None:
                following.set()
                return

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let another thread drive the loop while the block runs, in a callback of the loop."""
        loop: Any = self._loop
        task = asyncio.current_task(loop)
        if task is not None:
            asyncio._leave_task(loop, task)  # noqa: SLF001
        # `_run_once` will take this number of callbacks out of the queue in this thread.
        count = len(loop._ready)  # noqa: SLF001
        asyncio._set_running_loop(None)  # noqa: SLF001
        loop._thread_id = None  # noqa: SLF001
        when_threads_start(self._drive_in_thread, "a coroutine that blocks the event loop")
        try:
            yield
        finally:
            self._come_back()
            loop._thread_id = threading.get_ident()  # noqa: SLF001
            asyncio._set_running_loop(loop)  # noqa: SLF001
            while len(loop._ready) < count:  # noqa: SLF001
                loop.call_soon(lambda: None)
            with self._mutex:
                if self._next:
                    loop.stop()  # other threads wait to come back, too
            if task is not None:
                asyncio._enter_task(loop, task)  # noqa: SLF001

    def _come_back(self) -> None:
        turn = threading.Event()
        with self._mutex:
            self._next.append(turn)
        self._loop.call_soon_threadsafe(self._loop.stop)
        turn.wait()


_making = threading.Lock()
_loop: BodyLoop | None = None


def process_loop() -> BodyLoop:
    """The loop of this process, created when it is first needed.

    Raises:
        RuntimeError: this process may not have its threads now.
    """
    global _loop  # noqa: PLW0603 - one a process
    with _making:
        if _loop is None or _loop.closed:
            _loop = BodyLoop()
        return _loop


def _forget() -> None:
    # A forked child has none of its parent's threads.
    global _loop, _making
    _loop, _making = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def not_blocking_the_loop() -> contextlib.AbstractContextManager[None]:
    """A block that waits for another call. If the loop runs this code, another thread drives it."""
    if _loop is None or asyncio._get_running_loop() is not _loop._loop:  # noqa: SLF001
        return contextlib.nullcontext()
    return _loop.aside()
