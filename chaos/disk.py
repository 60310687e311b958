"""The filesystem of the spool: a small one in memory that can be filled."""

from __future__ import annotations

import os
import subprocess
import time

_SIZE = 6 * 2**30
_INODES = 4_000_000
_TRIES = 20
_SHRINK_EVERY = 0.1


class Disk:
    """A tmpfs on a folder.

    To fill it, it is shrunk to what it contains. Unlike a ballast file, that takes no memory.
    Files that are removed meanwhile leave room for others, as on any full disk.

    Args:
        path: the folder.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._full: tuple[bool, bool] | None = None
        self._shrunk = 0.0
        _run("mount", "-t", "tmpfs", "-o", f"mode=700,{_options(_SIZE, _INODES)}", "chaos", path)

    def fill(self, *, inodes: bool) -> None:
        """Fill it, so that there are no more free bytes, or no more free inodes."""
        self._full = (not inodes, inodes)
        self.keep_full()

    def keep_full(self) -> None:
        """Take away space that was freed since; called again and again."""
        if self._full is None or time.monotonic() - self._shrunk < _SHRINK_EVERY:
            return
        self._shrunk = time.monotonic()
        for _ in range(_TRIES):
            now = os.statvfs(self._path)
            size = max(1, now.f_blocks - now.f_bfree) * now.f_bsize if self._full[0] else _SIZE
            inodes = now.f_files - now.f_ffree if self._full[1] else _INODES
            # The remount fails if more has been used in the meantime.
            if _mount_again(self._path, _options(size, inodes)):
                return

    def free(self) -> None:
        """Give it free space again."""
        self._full = None
        if not _mount_again(self._path, _options(_SIZE, _INODES)):
            raise OSError(f"{self._path} cannot be made larger again")

    def close(self) -> None:
        """Unmount it."""
        _run("umount", "--lazy", self._path)


def _options(size: int, inodes: int) -> str:
    return f"size={size},nr_inodes={inodes}"


def _mount_again(path: str, options: str) -> bool:
    command = ["mount", "-o", f"remount,{options}", path]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def available() -> bool:
    """Whether this process may mount filesystems and make PID namespaces."""
    if os.geteuid() != 0:
        return False
    command = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
