"""Starts the processes of slots from a fork server of the worker's own.

multiprocessing has one fork server for a whole program. What a program starts there itself would
be among the processes of the slots, and be ended with them.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import multiprocessing.context
import os
import signal
from multiprocessing import util
from typing import TYPE_CHECKING, Any, TypeAlias

from fsqueue.runner.processes import descendants
from fsqueue.runner.slots import slot_main

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    from fsqueue.runner.processes.descendants import Relative


Server: TypeAlias = "ForkServer | SpawnServer"


class SpawnServer:
    """Starts processes where Python has no fork server: one by one, from the beginning."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")

    def process(self, target: Callable[..., object], args: tuple[Any, ...]) -> BaseProcess:
        """A process that is not started yet."""
        return self._context.Process(target=target, args=args)

    def orphans(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
        """Nobody adopts orphans here, so they are not found."""
        del slots
        return lambda _: []

    def processes(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
        """The processes of slots, and what they have left."""
        return lambda _: list(slots)

    def stop(self) -> None:
        """There is no server to stop."""


if "forkserver" in multiprocessing.get_all_start_methods():
    from multiprocessing import forkserver, popen_forkserver, reduction, spawn
    from multiprocessing.context import set_spawning_popen

    class ForkServer(forkserver.ForkServer):
        """A fork server, which ends everything below it when the thread that uses it does."""

        def __init__(self) -> None:
            super().__init__()
            self.set_forkserver_preload(["fsqueue.runner.slots.forkserver", slot_main.__name__])

        @property
        def pid(self) -> int | None:
            """Its process; None before the first start."""
            pid: int | None = self._forkserver_pid  # type: ignore[attr-defined]
            return pid

        def process(self, target: Callable[..., object], args: tuple[Any, ...]) -> BaseProcess:
            """A process that is not started yet."""
            return _ServedProcess(self, target, args)

        def orphans(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
            """What a slot has left that died: the server adopts it, a child that is no slot.

            Args:
                slots: the processes of all slots; none may be starting.
            """
            return lambda known: [
                each.pid
                for each in known
                if each.parent == self.pid is not None and each.pid not in slots
            ]

        def processes(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
            """The processes of slots, and what they have left."""
            left = self.orphans(set())
            return lambda known: [*slots, *left(known)]

        def stop(self) -> None:
            """End it, and everything below it."""
            if self.pid is None:
                return
            descendants.end(self.processes(set()))
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._stop()  # type: ignore[attr-defined]

    class _ServedProcess(multiprocessing.context.ForkServerProcess):
        def __init__(
            self, server: ForkServer, target: Callable[..., object], args: tuple[Any, ...]
        ) -> None:
            super().__init__(target=target, args=args)
            self._server = server

        def _Popen(self, process_obj: BaseProcess) -> popen_forkserver.Popen:  # type: ignore[override] # noqa: N802
            return _Popen(process_obj, self._server)

        def __getstate__(self) -> dict[str, Any]:
            state = self.__dict__.copy()
            del state["_server"]
            return state

    class _Popen(popen_forkserver.Popen):
        """multiprocessing's own, for another server than the program's."""

        def __init__(self, process_obj: BaseProcess, server: ForkServer) -> None:
            self._server = server
            super().__init__(process_obj)

        def _launch(self, process_obj: BaseProcess) -> None:
            data = io.BytesIO()
            set_spawning_popen(self)
            try:
                reduction.dump(spawn.get_preparation_data(process_obj.name), data)
                reduction.dump(process_obj, data)
            finally:
                set_spawning_popen(None)
            self.sentinel, writer = self._server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
            # The process sees by this pipe whether its parent is gone.
            kept = os.dup(writer)
            close = util.close_fds  # type: ignore[attr-defined]
            self.finalizer = util.Finalize(self, close, (kept, self.sentinel))
            with open(writer, "wb") as file:
                file.write(data.getbuffer())
            self.pid = forkserver.read_signed(self.sentinel)

    def make_server() -> Server:
        """What starts the processes of a worker's slots."""
        return ForkServer()

else:

    def make_server() -> Server:
        """What starts the processes of a worker's slots."""
        return SpawnServer()
