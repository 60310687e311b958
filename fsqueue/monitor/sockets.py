"""The sockets of the web page, which no other host can reach."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from typing import Final

from fsqueue.errors import ConfigError

_PRIVATE = 0o700

LOOPBACK: Final = "127.0.0.1"


def listen_on_port(port: int) -> socket.socket:
    """A socket that only this host can reach.

    Raises:
        ConfigError: the port is taken.
    """
    # asyncio turns off Nagle's algorithm only for a socket that says it is TCP's. Otherwise each
    # answer, whose head and body are written apart, takes 40 ms more: the client's delayed ACK.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((LOOPBACK, port))
        found.listen()  # so the printed link works at once
    except OSError as error:
        found.close()
        raise ConfigError(f"--port: cannot use port {port} of {LOOPBACK}: {error}") from error
    return found


def default_socket(name: str) -> str:
    """Where to put the socket of a spool, if the user names no place."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = (
        os.path.join(runtime, "fsqueue")
        if runtime and os.path.isdir(runtime)
        else os.path.join(tempfile.gettempdir(), f"fsqueue-{os.getuid()}")
    )
    return os.path.join(folder, f"{name}.sock")


def listen_on_socket(path: str) -> socket.socket:
    """A Unix socket that only this user can reach, in a folder that only this user can enter.

    This makes the socket because Uvicorn would let everybody connect to one that it makes.

    Raises:
        ConfigError: the folder is not private, or the path is another monitor's, or a file.
    """
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, _PRIVATE, exist_ok=True)
    status = os.lstat(folder)
    if status.st_uid != os.getuid() or status.st_mode & 0o777 != _PRIVATE:
        raise ConfigError(
            f"--socket: {folder} is not a folder of your own that nobody else can enter. Name a "
            "path in one with mode 0700, or none"
        )
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    try:
        _remove_dead(path)
        found.bind(path)
        found.listen()
    except BaseException as error:
        found.close()
        if isinstance(error, OSError):
            raise ConfigError(f"--socket: cannot use {path}: {error}") from error
        raise
    finally:
        os.umask(before)
    return found


def _remove_dead(path: str) -> None:
    """Remove a socket on which no process listens."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):  # a connection to a file is refused too
        raise ConfigError(f"--socket: {path} exists, and is not a socket. Name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            pass
        else:
            raise ConfigError(f"another monitor listens on {path}")
