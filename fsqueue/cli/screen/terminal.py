"""A terminal that a program has to itself: its modes, its size, its keys and its output."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import shutil
import signal
import termios
import tty
from typing import TYPE_CHECKING, Any

from fsqueue.cli.screen.cells import Painter
from fsqueue.cli.screen.keys import split_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from fsqueue.cli.screen.cells import Line

# The other screen, so that the former content comes back; no cursor; no line breaks at the margin.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
# An escape that nothing follows for this many seconds is the Esc key. On a slow line, a control
# sequence arrives in parts.
_ESCAPE = 0.1
_SIZE = (80, 24)


class Terminal:
    """Takes over a terminal for a block.

    Ctrl-C raises `KeyboardInterrupt` as usual, SIGTERM and SIGHUP raise `SystemExit`. Ctrl-Z gives
    the terminal back until the program goes on.

    Args:
        keys: the file descriptor that keys come from; None if there is none.
        output: the file descriptor of the terminal.
        encoding: the encoding of its text.
    """

    def __init__(self, keys: int | None, output: int, encoding: str) -> None:
        self._keys, self._output = -1 if keys is None else keys, output
        self._encoding = encoding
        self._listening = keys is not None
        self._modes: list[Any] = []
        self._painter = Painter(colour=not os.environ.get("NO_COLOR"))
        self._decode = codecs.getincrementaldecoder("utf-8")("ignore").decode
        self._bell, self._ring = os.pipe()
        for end in (self._bell, self._ring):
            os.set_blocking(end, False)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._output)
            if columns and lines:
                return columns, lines
        return (fallback := shutil.get_terminal_size(_SIZE)).columns, fallback.lines

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take the terminal over for a block."""
        handlers = {
            signal.SIGTSTP: self._suspend,
            signal.SIGWINCH: self._redraw,
            signal.SIGTERM: _end,
            signal.SIGHUP: _end,
        }
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        wakeup = signal.set_wakeup_fd(self._ring, warn_on_full_buffer=False)
        try:
            self._enter()
            yield
        finally:
            with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
                self._leave()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._bell)
            os.close(self._ring)

    def _enter(self) -> None:
        if self._keys >= 0:
            self._modes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._painter.forget()
        self._write(_ENTER)

    def _leave(self) -> None:
        self._write(_LEAVE)
        if self._modes:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()  # when SIGCONT arrives
        self.wake()

    def _redraw(self, _number: int, _frame: FrameType | None) -> None:
        self._painter.forget()

    def wake(self) -> None:
        """End a wait, from any thread."""
        with contextlib.suppress(OSError):  # the pipe is full, or closed
            os.write(self._ring, b".")

    def wait(self, seconds: float) -> list[str]:
        """The keys that were pressed; empty after this time, a signal, or `wake`."""
        ends = [self._bell, *([self._keys] if self._listening else [])]
        ready, _, _ = select.select(ends, [], [], max(0.0, seconds))
        if self._bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)
        keys = self._read() if self._listening and self._keys in ready else []
        if "redraw" in keys:
            self._painter.forget()
        return keys

    def _read(self) -> list[str]:
        """The keys that have arrived. Waits for the missing parts of a control sequence."""
        text = self._decode(self._received())
        keys, rest = split_keys(text, complete=False)
        while rest and self._listening and select.select([self._keys], [], [], _ESCAPE)[0]:
            more, rest = split_keys(rest + self._decode(self._received()), complete=False)
            keys += more
        return keys + split_keys(rest, complete=True)[0]

    def _received(self) -> bytes:
        data = b""
        with contextlib.suppress(OSError):  # the terminal is gone
            data = os.read(self._keys, 4096)
        self._listening = bool(data)
        return data

    def draw(self, lines: Sequence[Line], size: tuple[int, int]) -> None:
        """Show these lines on a screen of this size."""
        self._write(self._painter.paint(lines, *size).encode(self._encoding, "replace"))

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._output, data) :]


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
