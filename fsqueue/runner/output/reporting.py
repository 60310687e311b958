"""Writes the output and progress of running bodies in a thread, at most twice a second."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import plain
from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.features.body_reports import (
    LONGEST_MESSAGE,
    OUTPUT_LIMIT,
    Progress,
    drop_progress,
    write_progress,
)

if TYPE_CHECKING:
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

_PERIOD = 0.5
# A body that ends before this many seconds needs no report, and its output is written once.
_FIRST = 0.05
# Long output keeps its beginning and its end; the rest of the limit leaves room for a note.
_HEAD: Final = OUTPUT_LIMIT // 2
_TAIL: Final = OUTPUT_LIMIT // 2 - 1024


class Captured:
    """The kept output of a body: the first and the last half MiB."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._head = bytearray()
        self._tail = bytearray()
        self._room = _HEAD
        self._cut = 0

    def add(self, text: str) -> None:
        """Add a text."""
        data = text.encode("utf-8", "backslashreplace")
        with self._mutex:
            self._head += data[: self._room]
            rest = data[self._room :]
            self._room = max(0, self._room - len(data))
            self._tail += rest
            over = len(self._tail) - _TAIL
            if over > 0:
                del self._tail[:over]
                self._cut += over

    def take(self, *, last: bool = False) -> bytes:
        """The output that can be written now and was not taken before; `last` adds the tail."""
        with self._mutex:
            data = bytes(self._head)
            self._head.clear()
            if last:
                data += self._note() + self._tail
                self._tail.clear()
                self._cut = 0
            return data

    def _note(self) -> bytes:
        if not self._cut:
            return b""
        text = f"\n[fsqueue: {self._cut} bytes are cut out here; {OUTPUT_LIMIT} are kept at most]\n"
        return text.encode()


class Report:
    """The output and progress of one attempt.

    Args:
        flusher: writes it while the body runs; None is the one of this process.
    """

    def __init__(self, store: Store, name: AttemptName, flusher: Flusher | None = None) -> None:
        self._store, self._name = store, name
        self._wake = (flusher or _flusher).wake
        self._captured = Captured()
        self._progress: Progress | None = None
        self._reported = self._closed = self._complained = False
        self._unwritten = b""
        self._written = 0
        self._pid = os.getpid()
        self._io = threading.Lock()

    def add_output(self, text: str) -> None:
        """Keep text that the body prints; it is dropped after the end of the attempt."""
        if not self._closed and self._pid == os.getpid():
            self._captured.add(text)
            self._wake(self)

    def show(self, progress: Progress) -> None:
        """Keep the latest progress of the body."""
        if not self._closed and self._pid == os.getpid():
            self._progress = progress
            self._wake(self)

    def flush(self) -> None:
        """Write what is new. If the shared directory fails, the next flush tries again."""
        with self._io:
            if not self._closed:
                self._write_output(last=False)
                self._write_progress()

    def close(self) -> None:
        """Write the rest of the output, and remove the progress: the attempt has ended."""
        with self._io:
            if self._closed:
                return
            self._closed = True
            self._write_output(last=True)
            if self._reported:
                drop_progress(self._store.files, self._name)

    def _write_output(self, *, last: bool) -> None:
        self._unwritten += self._captured.take(last=last)
        if not self._unwritten:
            return
        path = self._store.layout.output(self._name)
        try:
            try:
                self._store.fs.extend(path, self._written, self._unwritten)
            except FileNotFoundError:
                self._written = 0  # it has expired in the meantime
                self._store.files.with_folder(
                    path, lambda: self._store.fs.extend(path, 0, self._unwritten)
                )
        except (OSError, EnvelopeError) as error:
            self._complain(f"the output of {self._name}", error)
        else:
            self._written += len(self._unwritten)
            self._unwritten = b""

    def _write_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is None:
            return
        self._reported = True  # after an error too: only the reply may have been lost
        try:
            write_progress(self._store.files, self._name, progress)
        except (OSError, SpoolError) as error:
            self._progress = self._progress or progress
            self._complain(f"the progress of {self._name}", error)

    def _complain(self, what: str, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "%s cannot be written: %s. The call goes on. Is the shared directory full?",
                what,
                error,
            )


class Flusher:
    """A thread that writes for all bodies of this process; it runs only while there is output.

    Args:
        first: seconds after which it writes for the first time.
    """

    def __init__(self, first: float = _FIRST) -> None:
        self._first = first
        self._mutex = threading.Lock()
        self._waiting: set[Report] = set()
        self._busy = False

    def wake(self, report: Report) -> None:
        """Write this report soon."""
        with self._mutex:
            self._waiting.add(report)
            if self._busy:
                return
            self._busy = True
        try:
            threading.Thread(target=self._run, name="fsqueue-reports", daemon=True).start()
        except RuntimeError as error:  # the limit of processes is reached
            log.debug("reports and output wait, as no thread can be started: %s", error)
            with self._mutex:
                self._busy = False  # the next output of a body tries again

    def _run(self) -> None:
        time.sleep(self._first)
        while True:
            with self._mutex:
                reports, self._waiting = self._waiting, set()
                if not reports:
                    self._busy = False
                    return
            for report in reports:
                try:
                    report.flush()
                except Exception:
                    # A report that cannot be written must not stop those of other bodies.
                    log.exception("a report was not written")
            time.sleep(_PERIOD)


_flusher = Flusher()


def _renew() -> None:
    global _flusher  # noqa: PLW0603 - a forked child has none of its parent's threads
    _flusher = Flusher()


os.register_at_fork(after_in_child=_renew)


def checked_progress(done: float, total: float | None, message: str) -> Progress:
    """Check a progress report of a body.

    Raises:
        TypeError: a count is not a number, or the message is not a string.
        ValueError: a count is negative or not finite.
    """
    for name, given in (("done", done), ("total", total)):
        if given is None and name == "total":
            continue
        value = plain(given)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"progress({name}={value!r}): expected a number")
        if not 0 <= value <= sys.float_info.max:
            raise ValueError(f"progress({name}={value!r}): expected a finite number >= 0")
    if not isinstance(message, str):
        raise TypeError(f"progress(message={message!r}): expected a text")
    text = message.encode("utf-8", "backslashreplace").decode()[:LONGEST_MESSAGE]
    return Progress(float(plain(done)), None if total is None else float(plain(total)), text)
