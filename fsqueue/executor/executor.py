"""`fsqueue.Executor`."""

from __future__ import annotations

import functools
import os
import weakref
from concurrent import futures
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from fsqueue.common.values import plain
from fsqueue.config import fields
from fsqueue.errors import ConfigError
from fsqueue.executor.application import release, share
from fsqueue.executor.calls import Calls, Initializer
from fsqueue.executor.dispatcher import Dispatcher
from fsqueue.executor.local import start_local
from fsqueue.executor.mapping import Sizes, mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Literal

    from fsqueue.config import Options
    from fsqueue.results.futures import CallFuture

P = ParamSpec("P")
T = TypeVar("T")

_ARGUMENTS = ("max_workers", "root", "workers", "initializer", "initargs", "detach")


class Executor(futures.Executor):
    """Runs functions on the workers of a spool: a `concurrent.futures.Executor`.

    Functions travel by value, so lambdas, closures and functions of the main script can be called.
    ``fsqueue worker --root DIR`` starts a worker for them, on any host that sees the folder.

    Args:
        max_workers: the largest number of calls in the spool at a time; None: no limit, and the
            workers' slots decide how many run.
        root: the shared directory; None: from the configuration.
        workers: start local workers that run this many calls at a time, and end with the executor.
            Without a configured root, they use a private folder.
        initializer: called once in each process of a worker, before its first call.
        initargs: arguments of the initializer.
        detach: calls outlive this process, and any process can collect them by their ids.
        options: settings; see docs/configuration.md.

    Raises:
        ConfigError: a setting is wrong, or the serializer is "json".
        TypeError: the initializer is not callable.
        ValueError: a number is not greater than 0.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        detach: bool = False,
        **options: Unpack[Options],
    ) -> None:
        if isinstance(max_workers, str | os.PathLike):
            raise TypeError(
                f"max_workers = {max_workers!r}, expected a whole number: name the shared "
                f"directory as root={max_workers!r}"
            )
        _check_names(options)
        self._limit = _checked("max_workers", max_workers)
        local = _checked("workers", workers)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._local = start_local(local, root, options) if local is not None else None
        self._app = self._local.app if self._local is not None else share(root, options)
        self._dispatcher = Dispatcher(self._app, self._limit, detach=detach)
        if self._local is not None:
            self._dispatcher.workers = self._local.workers
            self._dispatcher.on_end.append(self._local.clean_up)
        else:
            self._dispatcher.on_end.append(functools.partial(release, self._app))
        starter = None if initializer is None else Initializer(initializer, tuple(initargs))
        self._calls = Calls(self._app, self._dispatcher, starter)
        ended = weakref.finalize(self, self._dispatcher.close)
        ended.atexit = False  # the exit waits for the calls

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._app.root}>"

    @property
    def _max_workers(self) -> int:
        """How many calls can run at a time: dask and joblib read it."""
        if self._limit is not None:
            return self._limit
        least = 1 if self._local is None else self._local.slots
        return max(least, self._app.slots)

    @property
    def _broken(self) -> str | bool:
        """Why no more calls can run, or False; the standard pools have this attribute."""
        return False if self._dispatcher.error is None else str(self._dispatcher.error)

    # -- calls --------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """Call a function on a worker.

        A function or an argument that cannot be serialized fails the future, not this method.

        Raises:
            BrokenExecutor: the initializer has failed in a worker.
            RuntimeError: the executor was shut down, or Python is exiting.
        """
        self._dispatcher.check_open()
        return self._calls.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | Literal["auto"] = "auto",
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call a function for each item of the iterables, and yield the values in their order.

        The function is serialized once, now, with its closure and globals.

        Args:
            fn: the function.
            iterables: its arguments, as for the built-in `map`. They are read at once, unless
                `buffersize` is given.
            timeout: seconds from now; waiting longer for a value raises `TimeoutError`.
            chunksize: how many items are sent as one call; "auto": chosen from how long the items
                take, or 1 with a `buffersize`.
            buffersize: read at most this many chunks of items ahead.

        Raises:
            BrokenExecutor, RuntimeError: as `submit`.
            TypeError: `buffersize` is not a number.
            ValueError: a number is not greater than 0.
        """
        self._dispatcher.check_open()
        sizes = Sizes(chunksize, buffersize, self._max_workers)
        return mapped(self._calls, fn, zip(*iterables, strict=False), sizes, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop accepting calls.

        Args:
            wait: return only when all calls have ended and local workers have left.
            cancel_futures: cancel the calls that no worker has claimed.
        """
        self._dispatcher.close()
        if cancel_futures:
            self._dispatcher.cancel_all()
        if wait:
            self._dispatcher.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown(wait=not self._dispatcher.detach)


def _check_names(options: Iterable[str]) -> None:
    """Check that the other arguments of an executor are settings.

    Raises:
        ConfigError: one is not. If it resembles an argument of an executor, the message names that.
    """
    import difflib

    for name in set(options).difference(fields()):
        near = difflib.get_close_matches(name, _ARGUMENTS, n=1)
        if near:
            raise ConfigError(
                f"unknown argument {name} of an executor; did you mean {near[0]}? It also takes "
                "all settings (docs/configuration.md)."
            )


def _checked(name: str, given: int | None) -> int | None:
    number = plain(given)
    if number is None:
        return None
    if type(number) is not int:
        raise TypeError(f"{name} = {given!r}, expected a whole number")
    if number <= 0:
        raise ValueError(f"{name} must be greater than 0")
    return number
