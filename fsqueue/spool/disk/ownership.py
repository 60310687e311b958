"""Sets the mode and group of files and folders that fsqueue creates."""

from __future__ import annotations

import os
import stat

from fsqueue.spool.disk.syscalls import Handle

_OWN_FILE, _OWN_FOLDER = 0o600, 0o700
# Set-group-ID: files created in the folder belong to the folder's group.
_GROUP_FILE, _GROUP_FOLDER = 0o660, 0o2770


class Ownership:
    """Creates files and folders that only their owner or group may use, whatever the umask.

    Args:
        group: id of the group that shares the spool; None if only its owner may use it.
    """

    def __init__(self, group: int | None = None) -> None:
        self.group = group
        self.file_mode = _OWN_FILE if group is None else _GROUP_FILE
        self._folder_mode = _OWN_FOLDER if group is None else _GROUP_FOLDER

    def open_new(self, path: str, handle: Handle, more: int = 0, access: int = os.O_WRONLY) -> None:
        """Open a file, creating it if it is missing; `more` are flags of `open`."""
        del path  # it is named in traces
        flags = access | os.O_CREAT | os.O_NOFOLLOW | more
        number, mode = handle.open(flags, self.file_mode), self.file_mode
        found = os.fstat(number)
        if stat.S_IMODE(found.st_mode) != mode or self.group not in {None, found.st_gid}:
            self.fit(number, mode)

    def make_file(self, path: str) -> None:
        """Create an empty file unless it exists."""
        handle = Handle(path)
        try:
            self.open_new(path, handle)
        finally:
            handle.close()

    def make_folder(self, path: str) -> None:
        """Create a folder."""
        os.mkdir(path, self._folder_mode)
        self.fit(path, self._folder_mode)

    def fit(self, made: int | str, mode: int) -> None:
        """Set the mode and group of a new file or folder."""
        found = os.stat(made)
        if self.group is not None and found.st_gid != self.group:
            os.chown(made, -1, self.group)
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(made, mode)
