"""Makes the calls of an executor from functions and their arguments."""

from __future__ import annotations

import functools
import operator
import pickle
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.calls.arguments import argument_at
from fsqueue.calls.labels import fitted
from fsqueue.calls.packing import Packed
from fsqueue.codec.texts import type_name
from fsqueue.executor.body import inline_blobs
from fsqueue.executor.constant import constant_parts
from fsqueue.executor.errors import InitializerError, as_of_pool
from fsqueue.executor.parts import NO_BLOBS, Packer, uncopied
from fsqueue.results.futures import CallFuture
from fsqueue.spool.format.names import new_token
from fsqueue.spool.format.records import Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fsqueue.executor.application import ByValue
    from fsqueue.executor.body import Start
    from fsqueue.executor.dispatcher import Dispatcher
    from fsqueue.executor.parts import Part
    from fsqueue.invocation import Invocation


class Initializer(NamedTuple):
    """The function that runs once in each process of a worker, before an executor's calls."""

    function: Callable[..., object]
    args: tuple[Any, ...]


class Function(NamedTuple):
    """A function that was serialized for several calls."""

    name: str
    part: Part
    label: str
    """The name as a label."""


class Calls:
    """Makes the calls of an executor. It does not keep the executor alive.

    Args:
        app: the built-in application.
        dispatcher: publishes the calls.
        initializer: the executor's; None if it has none.
    """

    def __init__(
        self, app: ByValue, dispatcher: Dispatcher, initializer: Initializer | None
    ) -> None:
        self._app, self._dispatcher, self._initializer = app, dispatcher, initializer
        self._packer = Packer(lambda: app.store, app.conf.result_ttl)
        self._making_start = threading.Lock()
        self._start: Start | None = None
        # The latest constant function, and the objects that determine its bytes, kept alive.
        self._latest: tuple[tuple[Any, ...], Function] | None = None

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> CallFuture[Any]:
        """Make a call. Function and arguments are serialized now; an error fails the future."""
        try:
            named = dict(zip(kwargs, map(uncopied, kwargs.values()), strict=True))
            given = tuple(map(uncopied, args)), named
            function = self.function(fn)
            what = f"the arguments of {function.name}"
            part = self._packer.pack(given, what, argument_at, again=False)
            options = {} if self._initializer is None else self._options()
        except Exception as error:  # noqa: BLE001 - the future raises it
            return failed(error)
        return self._submit(function, part, options)

    def submit_chunk(
        self, function: Function, items: Sequence[tuple[Any, ...]], *, late: bool = False
    ) -> CallFuture[Any]:
        """Make one call for several items; its result is a `ChunkResult`.

        Args:
            items: the function's arguments for each item.
            late: accept it after a shutdown too, because its `map` was called before.
        """
        try:
            what = f"the arguments of {function.name}"
            part = self._packer.pack(items, what, _item_at, again=False)
            options = self._options(chunk=True)
        except Exception as error:  # noqa: BLE001 - the future raises it
            return failed(error)
        return self._submit(function, part, options, late=late)

    def function(self, fn: Callable[..., Any]) -> Function:
        """Serialize a function for several calls.

        Raises:
            SerializationError: it cannot be serialized.
        """
        parts = constant_parts(fn)
        if parts is not None and self._latest is not None:
            known, function = self._latest
            same = len(known) == len(parts) and all(map(operator.is_, known, parts))
            if same and (function.part[1:] == NO_BLOBS or self._packer.keep(function.part)):
                return function
        name = _name(fn)
        part = self._packer.pack(fn, f"the function {name}")
        function = Function(name, part, fitted(name))
        self._latest = None if parts is None else (parts, function)
        return function

    def _submit(
        self,
        function: Function,
        arguments: Part,
        kwargs: Mapping[str, Any],
        *,
        late: bool = False,
    ) -> CallFuture[Any]:
        args = function.name, function.part, arguments
        task, keep = self._app.run, self._dispatcher.detach
        if self._app.conf.dev_mode_force_sync_tasks:
            return self._run_inline(functools.partial(task.submit, args, kwargs, keep=keep))
        # The bytes that `submit` would send, without its checks: all parts are str and bytes.
        data = pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL)
        packed = Packed(Payload(data), label=function.label)
        publish = functools.partial(task.submit_packed, packed, keep=keep)
        future: CallFuture[Any] = CallFuture(publish=publish, backlog=self._dispatcher)
        self._dispatcher.submit(future, late=late)
        return future

    def _run_inline(self, publish: Callable[[], Invocation[Any]]) -> CallFuture[Any]:
        """Run a call in this thread, from its serialized parts as a worker would."""
        token = inline_blobs.set(self._app.store.blobs)
        future: CallFuture[Any] = CallFuture()
        try:
            invocation = publish()
            future.invocation_id = invocation.id
            future.settle(invocation.get())
        except Exception as error:  # noqa: BLE001 - the future raises it
            if isinstance(error, InitializerError):
                self._dispatcher.fail(error)
            future.settle(error=as_of_pool(error))
        finally:
            inline_blobs.reset(token)
        return future

    def _options(self, *, chunk: bool = False) -> dict[str, Any]:
        """The call's keyword arguments."""
        options: dict[str, Any] = {"chunk": True} if chunk else {}
        if self._initializer is not None:
            with self._making_start:
                if self._start is None:
                    function, args = self._initializer
                    self._start = (
                        new_token(),
                        self._packer.pack(function, "the initializer"),
                        self._packer.pack(args, "the arguments of the initializer"),
                    )
            options["start"] = self._start
        return options


def failed(error: BaseException) -> CallFuture[Any]:
    """The future of a call that could not be made."""
    future: CallFuture[Any] = CallFuture()
    future.settle(error=error)
    return future


def _item_at(path: str) -> str:
    return f"part {path} of the items"


def _name(function: Callable[..., Any]) -> str:
    found = getattr(function, "__qualname__", None)
    return found if isinstance(found, str) else type_name(type(function))
