"""A progress bar on the terminal, or in a notebook, during a wait for calls."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fsqueue.common.printable import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsqueue.results.pending_result import PendingResult

_PERIOD = 0.25
# The bar reads reported progress once in this many periods, for at most `_ASKED` calls.
_ASK_EVERY = 4
_ASKED = 50


@contextlib.contextmanager
def bar(pending_results: Mapping[PendingResult, int], description: str = "") -> Iterator[None]:
    """A block with a progress bar that counts the calls that have ended.

    The bar is on standard error if that is a terminal, or below the cell of a notebook. A running
    call counts as the fraction that it has reported.

    Args:
        pending_results: the pending results, each with its number of calls.
        description: text in front of the bar.
    """
    drawing = _drawing(description, sum(pending_results.values()))
    if drawing is None or not pending_results:
        yield
        return
    shown = _Bar(pending_results, drawing)
    shown.start()
    try:
        yield
    finally:
        shown.stop()


def _drawing(description: str, total: int) -> _Terminal | _Notebook | None:
    if in_notebook():
        return _Notebook(description, total)
    if sys.stderr is not None and sys.stderr.isatty():
        return _Terminal(description, total)
    return None


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this code."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Terminal:
    """A bar on standard error."""

    def __init__(self, description: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=Console(file=sys.stderr),
        )
        self._task = self._progress.add_task(description, total=total, count="", said="")
        self.start, self.stop = self._progress.start, self._progress.stop

    def show(self, completed: float, count: str, said: str) -> None:
        self._progress.update(self._task, completed=completed, count=count, said=said)


class _Notebook:
    """A bar below the cell that runs."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total = description, total
        self._began = time.monotonic()
        self._handle: Any = None
        self._last: tuple[float, str, str] = (0.0, "", "")

    def start(self) -> None:
        display = import_module("IPython.display").display
        self._handle = display(self._data(), raw=True, display_id=True)

    def stop(self) -> None:
        self._update()

    def show(self, completed: float, count: str, said: str) -> None:
        self._last = completed, count, said
        self._update()

    def _update(self) -> None:
        if self._handle is not None:
            self._handle.update(self._data(), raw=True)

    def _data(self) -> dict[str, str]:
        completed, count, said = self._last
        elapsed = duration(time.monotonic() - self._began)
        texts = [each for each in (self._description, count, elapsed, said) if each]
        first, *rest = map(escape, texts)
        meter = f'<progress value="{completed:.6g}" max="{self._total}"></progress>'
        html = f"<span>{first if self._description else ''} {meter} "
        html += f"{'  '.join(rest if self._description else [first, *rest])}</span>"
        return {"text/plain": "  ".join(texts), "text/html": html}


class _Bar:
    def __init__(
        self, pending_results: Mapping[PendingResult, int], drawing: _Terminal | _Notebook
    ) -> None:
        self._pending_results = pending_results
        self._total = sum(pending_results.values())
        self._drawing = drawing
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsqueue-bar", daemon=True)

    def start(self) -> None:
        self._drawing.start()
        # If this process cannot have another thread, it shows no bar but still gets the results.
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._drawing.stop()

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
        self._drawing.show(min(self._total, ended + partly), f"{ended}/{self._total}", said)

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
