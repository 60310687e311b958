"""A progress bar on the terminal during a wait for calls."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsqueue.results.pending_result import PendingResult

_PERIOD = 0.25
# The bar asks for progress once in this many periods, by one listing, for at most `_ASKED` calls.
_ASK_EVERY = 4
_ASKED = 50


@contextlib.contextmanager
def bar(pending_results: Mapping[PendingResult, int], description: str = "") -> Iterator[None]:
    """A block with a progress bar on standard error that counts the calls that have ended.

    A running call counts by the fraction that it has reported.

    Args:
        pending_results: the pending results, each with its number of calls.
        description: text in front of the bar.
    """
    if not pending_results or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    shown = _Bar(pending_results, description)
    shown.start()
    try:
        yield
    finally:
        shown.stop()


class _Bar:
    def __init__(self, pending_results: Mapping[PendingResult, int], description: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._pending_results = pending_results
        self._total = sum(pending_results.values())
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=Console(file=sys.stderr),
        )
        self._task = self._progress.add_task(description, total=self._total, count="", said="")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsqueue-bar", daemon=True)

    def start(self) -> None:
        self._progress.start()
        # If this process cannot have another thread, it shows no bar but still gets the results.
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._progress.stop()

    def _run(self) -> None:
        rounds = 0
        partly, said = 0.0, ""
        while not self._stop.wait(_PERIOD):
            if rounds % _ASK_EVERY == 0:
                partly, said = self._reported()
            rounds += 1
            self._show(partly, said)
        self._show(0.0, "")

    def _show(self, partly: float, said: str) -> None:
        ended = sum(count for each, count in self._pending_results.items() if each.is_there)
        self._progress.update(
            self._task,
            completed=min(self._total, ended + partly),
            count=f"{ended}/{self._total}",
            said=said,
        )

    def _reported(self) -> tuple[float, str]:
        """The progress of the running calls, in calls, and one of their messages."""
        from fsqueue.spool.features.body_reports import read_progress, reporting_attempts

        awaited = {each.id: each for each in self._pending_results if not each.is_there}
        if not awaited:
            return 0.0, ""
        store = next(iter(awaited.values())).store
        partly, said = 0.0, ""
        try:
            names = reporting_attempts(store.files)
            for invocation_id in list(awaited.keys() & names.keys())[:_ASKED]:
                found = read_progress(store.files, names[invocation_id])
                if found is not None:
                    partly += found.fraction or 0.0
                    said = found.message or said
        except OSError:
            return 0.0, ""  # the wait for the results reports the error
        return partly, "".join(each if each.isprintable() else "?" for each in said)
