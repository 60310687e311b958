"""`fsqueue top` on a terminal of a size that the test chooses, as a user sees it."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios

import pyte
from support import wait_until

_DIGITS = "0123456789"


class Top:
    """A process of `fsqueue top`, and what its terminal shows."""

    def __init__(self, root, columns, lines, *options, **env):
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.received = bytearray()
        self._master, slave = pty.openpty()
        self.set_size(columns, lines)
        self.modes = termios.tcgetattr(slave)
        command = [sys.executable, "-m", "fsqueue", "top", "--root", str(root), *options]
        variables = {
            name: value
            for name, value in os.environ.items()
            if name not in {"COLUMNS", "LINES", "NO_COLOR"}
        }
        variables |= {"TERM": "xterm", "PYTHONIOENCODING": "utf-8", **env}
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._master)
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                for number in (0, 1, 2):
                    os.dup2(slave, number)
                os.execve(command[0], command, variables)
            finally:
                os._exit(99)
        self._slave = slave
        self.status = None

    def set_size(self, columns, lines):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        self.set_size(columns, lines)

    def press(self, keys):
        os.write(self._master, keys.encode())

    def read(self):
        """Take in what the program has written."""
        while select.select([self._master], [], [], 0.02)[0]:
            data = b""
            with contextlib.suppress(OSError):  # its other end is closed
                data = os.read(self._master, 65536)
            if not data:
                return
            self.received += data
            self._stream.feed(data)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self):
        return "\n".join(self.lines)

    def wait_for(self, condition, what=""):
        """Wait until the screen meets a condition, or contains a text."""

        def met():
            self.read()
            return condition in self.text if isinstance(condition, str) else condition(self.lines)

        return wait_until(met, lambda: f"{what or condition}:\n{self.text}")

    def wait_for_end(self):
        def ended():
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
            return pid

        wait_until(ended, lambda: f"top ends:\n{self.text}")
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_for_end()
        os.close(self._master)
        os.close(self._slave)

    @property
    def modes_now(self):
        return termios.tcgetattr(self._slave)


@contextlib.contextmanager
def top(root, columns=80, lines=24, *options, **env):
    shown = Top(root, columns, lines, *options, **env)
    try:
        yield shown
    finally:
        shown.close()
