"""Starts slot processes from a fork server that belongs to the worker.

multiprocessing has one fork server for the whole program. If the slots used it, processes that the
program starts there would be mixed with slot processes, and be ended with them.
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
    """Starts slot processes with `spawn`, where Python has no fork server."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")

    def process(self, target: Callable[..., object], args: tuple[Any, ...]) -> BaseProcess:
        """Make a process, which is not started yet."""
        return self._context.Process(target=target, args=args)

    def orphans(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
        """No processes: without a fork server, nothing adopts orphans."""
        del slots
        return lambda _: []

    def processes(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
        """Finds the slot processes and their orphans."""
        return lambda _: list(slots)

    def stop(self) -> None:
        """Do nothing: there is no server."""


if "forkserver" in multiprocessing.get_all_start_methods():
    from multiprocessing import forkserver, popen_forkserver, reduction, spawn
    from multiprocessing.context import set_spawning_popen

    class ForkServer(forkserver.ForkServer):
        """A fork server, which ends all processes below it when the thread that started it ends."""

        def __init__(self) -> None:
            super().__init__()
            self.set_forkserver_preload(["fsqueue.runner.slots.forkserver", slot_main.__name__])

        @property
        def pid(self) -> int | None:
            """Its process id; None before the first start."""
            pid: int | None = self._forkserver_pid  # type: ignore[attr-defined]
            return pid

        def process(self, target: Callable[..., object], args: tuple[Any, ...]) -> BaseProcess:
            """Make a process, which is not started yet."""
            return _ServedProcess(self, target, args)

        def orphans(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
            """Finds orphans of dead slots: children of the server that are not slots.

            Args:
                slots: the processes of all slots; none may be starting.
            """
            return lambda known: [
                each.pid
                for each in known
                if each.parent == self.pid is not None and each.pid not in slots
            ]

        def processes(self, slots: set[int]) -> Callable[[list[Relative]], list[int]]:
            """Finds the slot processes and their orphans."""
            left = self.orphans(set())
            return lambda known: [*slots, *left(known)]

        def stop(self) -> None:
            """End the server and all processes below it."""
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
        """multiprocessing's `Popen`, for this server instead of the program's."""

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
            # The process notices by this pipe that its parent has died.
            kept = os.dup(writer)
            close = util.close_fds  # type: ignore[attr-defined]
            self.finalizer = util.Finalize(self, close, (kept, self.sentinel))
            with contextlib.suppress(BrokenPipeError), open(writer, "wb") as file:
                file.write(data.getbuffer())
            self.pid = forkserver.read_signed(self.sentinel)
            if self.pid < 0:  # see `runner.slots.forkserver`
                raise OSError(-self.pid, f"the fork server: {os.strerror(-self.pid)}")

    def make_server() -> Server:
        """Make the server that starts a worker's slot processes."""
        return ForkServer()

else:

    def make_server() -> Server:
        """Make the server that starts a worker's slot processes."""
        return SpawnServer()
