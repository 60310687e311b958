"""Writes, moves and reads files of the spool, and sets damaged ones aside.

A file is written under ``tmp/`` and then moved to its place. The target folder may be missing, or
something else may be in its place.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING, TypeVar

from fsqueue.common.recent import RecentTexts
from fsqueue.errors import EnvelopeError, SpoolError, SpoolVersionError
from fsqueue.spool.disk.clock import ServerClock
from fsqueue.spool.disk.looking import LookingClock
from fsqueue.spool.disk.syscalls import links_unsupported
from fsqueue.spool.files.root import check_spool, format_of, may_make
from fsqueue.spool.files.temporary import TemporaryFiles
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.spool.disk.content import Buffer, Content
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.files.sleepers import Sleepers
    from fsqueue.spool.format.envelope import H
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import Payload, SpoolInfo

log: logging.Logger = logging.getLogger(__name__)
T = TypeVar("T")

# A try fails if another process removes a folder just after this one created it: rare even once.
_TRIES = 100
_REMOVED = "its folder is removed again and again. Find out what else cleans up there."
_LONGEST_NAME = 200  # bytes: leaves room for a suffix and the reason file's ending


class Files:
    """The files of a spool, as one process sees them.

    Args:
        info: the content of its ``spool.json``.
        key: the key that signs its files; empty if they are not signed.
        links: write small records as symbolic links, if the spool allows them.
        look: this process writes nothing.

    Attributes:
        sleepers: wakes other hosts; None where that is not wanted or not possible.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        layout: Layout,
        info: SpoolInfo,
        key: bytes = b"",
        *,
        links: bool = True,
        look: bool = False,
    ) -> None:
        self.fs: Filesystem = filesystem
        self.layout: Layout = layout
        self.info: SpoolInfo = info
        self.clock: ServerClock = LookingClock(filesystem) if look else ServerClock(filesystem)
        self.key = key
        self.temporary: TemporaryFiles = TemporaryFiles(
            filesystem, layout, info.longest_link if links else 0, self.with_folder
        )
        self.sleepers: Sleepers | None = None
        self._left_alone = RecentTexts()
        self._passed_over = RecentTexts()

    def sync_clock(self) -> None:
        """Read the file server's clock, in a process without a file of its own to touch."""
        if isinstance(self.clock, LookingClock):
            self.clock.sync(self.layout.upkeep_stamp)
            return
        with self.temporary.file() as path:
            self.with_folder(path, lambda: self.clock.sync(path))
            self.fs.discard(path)

    # -- the root -----------------------------------------------------------------------

    def check_spool(self) -> None:
        """Check that the root holds this spool before creating anything missing: see `root`."""
        check_spool(self.fs, self.layout, self.info.id)

    def make_folders(self, path: str) -> None:
        """Create a folder of the spool and its missing parents, except for the root.

        Raises:
            SpoolReplacedError, OSError: the root holds another spool, or currently none.
        """
        if self._may_make(path):
            self.fs.make_folders(path, self._may_make)

    def _may_make(self, folder: str) -> bool:
        return may_make(self.fs, self.layout, self.info.id, folder)

    def with_folder(self, path: str, step: Callable[[], T]) -> T:
        """Run a step that creates the file `path`, whose folder may have been removed."""
        try:
            return step()
        except FileNotFoundError:
            self.make_folders(os.path.dirname(path))
        return step()

    def touch(self, path: str) -> None:
        """Like the filesystem's `touch`, for a file whose folder may have been removed."""
        self.with_folder(path, lambda: self.fs.touch(path))

    # -- reading ------------------------------------------------------------------------

    def read_if_there(self, path: str) -> Content | None:
        """The content of a file, like `read_file`; None if it is missing."""
        try:
            return self.read_file(path, fresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def listed(self, folder: str, *, fresh: bool = False, limit: int | None = None) -> list[str]:
        """Names in a folder; empty if it cannot be listed, which is logged once.

        An inaccessible or damaged folder must not stop a walk over many folders. Do not use this
        where "empty" and "cannot be listed" must be distinguished.
        """
        try:
            return self.fs.names(folder, fresh=fresh, limit=limit)
        except OSError as error:
            self.pass_over(folder, error)
            return []

    def pass_over(self, path: str, error: Exception) -> None:
        """Log, once per path, that it is skipped because of an error."""
        if self._passed_over.add(path):
            log.warning("%s is passed over: %s", path, error)

    def unless_refused(self, path: str, step: Callable[[], object]) -> bool:
        """Run a step on a file; skip the file if the server refuses the step twice."""
        for last in (False, True):
            try:
                step()
            except PermissionError as error:
                if last:
                    self.pass_over(path, error)
            else:
                return True
        return False

    def read_file(self, path: str, *, fresh: bool = False) -> Content:
        """Content of a call, an outcome or a blob.

        Raises:
            EnvelopeError: it is not a regular file, or its length differs from its first line.
            SpoolVersionError: another version wrote it, and it is too large to read unchecked.
        """
        try:
            return self.fs.read_content(
                path, envelope.pieces, fresh=fresh, link_first=self.info.longest_link > 0
            )
        except SpoolVersionError as error:
            self._check_version(path, error)
            raise

    def decode(self, content: Content, kind: type[H], where: str) -> tuple[H, Payload]:
        """Header and payload of a file's content; see `envelope.decode`."""
        try:
            return envelope.decode(content, kind, where, self.key)
        except SpoolVersionError as error:
            self._check_version(where, error)
            raise

    def unseal(self, content: Content, where: str) -> envelope.Unsealed:
        """The verified content of a file of any kind; see `envelope.unseal`."""
        try:
            return envelope.unseal(content, where, self.key)
        except SpoolVersionError as error:
            self._check_version(where, error)
            raise

    def _check_version(self, where: str, error: SpoolVersionError) -> None:
        """Distinguish a file of another version from a file whose version number is damaged.

        A version of fsqueue that writes another format first changes the format in ``spool.json``.

        Raises:
            EnvelopeError: ``spool.json`` has this version's format, so the file is damaged.
        """
        if format_of(self.fs, self.layout) == self.info.format:
            raise EnvelopeError(
                f"{where} is damaged: its format is not that of files in {self.layout.info}"
            ) from error

    # -- moving -------------------------------------------------------------------------

    def move(self, source: str, target: str) -> bool:
        """Rename into a folder that may be missing; False if the source is gone.

        A lost reply looks as if the source were gone. So use this only for a source that no other
        process takes, or where it does not matter which process took it.
        """
        for _ in range(_TRIES):
            try:
                self.fs.rename(source, target)
            except FileNotFoundError:
                if not self.fs.is_there(source):
                    return False
                self._make_way(target)
            except OSError:
                if not self.clear(os.path.dirname(target)):
                    raise
            else:
                if self.sleepers is not None:
                    self.sleepers.moved(target)
                return True
        raise SpoolError(f"cannot move to {target}: {_REMOVED}")

    def _make_way(self, target: str) -> None:
        folder = os.path.dirname(target)
        # A folder with that name may be missing in another spool, too.
        self.check_spool()
        if not self.clear(folder):
            self.make_folders(folder)

    def clear(self, folder: str) -> bool:
        """Set aside a file or link that is in the place of a folder; False if there is none.

        This uses link and unlink, which refuse folders: another process may already have set the
        file aside and created the folder, whose content must not be moved.
        """
        layout = self.layout
        if folder in layout.folders or self.fs.is_folder(folder) is not False:
            return False
        self.check_spool()
        name = self.free_name(folder)
        self._explain(name, f"{folder}: stands where a folder of the spool belongs")
        try:
            self.fs.link(folder, layout.quarantined(name))
        except (FileNotFoundError, PermissionError):
            self.fs.discard(layout.quarantine_reason(name))
            return False
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            self.fs.unlink(folder)
        log.warning("%s is not a folder, and is set aside", folder)
        return True

    def link_once(self, temporary: str, target: str) -> bool:
        """Give a temporary file a second name unless that name exists; False if it does.

        Lost reply: the temporary file has two names.
        """
        for _ in range(_TRIES):
            try:
                self.fs.link(temporary, target)
            except FileExistsError:
                return self.fs.link_count(temporary) > 1
            except FileNotFoundError:
                # Its client has exited and removed the empty mailbox.
                self._make_way(target)
            except OSError as error:
                if links_unsupported(error):
                    return self._rename_if_absent(temporary, target)
                if not self.clear(os.path.dirname(target)):
                    raise
            else:
                return True
        raise SpoolError(f"cannot publish into {target}: {_REMOVED}")

    def add_link(self, target: str, chunks: Sequence[Buffer]) -> bool | None:
        """Make a record as a link in a folder that may be missing; see `make_link`."""
        for _ in range(_TRIES):
            try:
                return self.temporary.make_link(target, chunks)
            except FileNotFoundError:
                self._make_way(target)
            except OSError:
                if not self.clear(os.path.dirname(target)):
                    raise
        raise SpoolError(f"cannot publish into {target}: {_REMOVED}")

    def _rename_if_absent(self, temporary: str, target: str) -> bool:
        # Without hard links, the check and the rename are two steps. Two workers with the same
        # invocation can both pass the check, and then the later result stands.
        if self.fs.exists(target):
            return False
        self.move(temporary, target)
        return True

    # -- quarantine ---------------------------------------------------------------------

    def free_name(self, path: str) -> str:
        """An unused name in ``quarantine/`` for a file: its own name, or one derived from it."""
        name = os.fsdecode(os.fsencode(os.path.basename(path))[:_LONGEST_NAME])
        taken = self.layout.quarantined(name), self.layout.quarantine_reason(name)
        if any(self.fs.exists(each) for each in taken):
            return f"{name}.{new_token(6)}"
        return name

    def set_aside(self, path: str, reason: str, name: str | None = None) -> None:
        """Move a file to ``quarantine/``, with the reason in a file beside it.

        Dies in between: the reason is there, and the file still has to be moved. A read-only
        process leaves the file. `name` comes from `free_name`; None picks one.
        """
        if isinstance(self.clock, LookingClock):
            self.pass_over(path, EnvelopeError(reason))
            return
        self.check_spool()
        name = name or self.free_name(path)
        self._explain(name, f"{path}: {reason}")
        target = self.layout.quarantined(name)
        try:
            moved = self.move(path, target) or self.fs.exists(target)
        except PermissionError:
            self.fs.discard(self.layout.quarantine_reason(name))
            raise
        if not moved:
            self.fs.discard(self.layout.quarantine_reason(name))  # another process was faster

    def remove(self, path: str) -> None:
        """Remove a file that may already be gone; a folder in its place is set aside."""
        try:
            self.fs.unlink(path)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            self.clear_away(path, "a folder stands where a file of the spool belongs")

    def clear_away(self, path: str, reason: str) -> None:
        """Set a file aside unless it cannot be moved, such as another user's private folder."""
        try:
            self.set_aside(path, reason)
        except PermissionError as error:
            self.pass_over(path, error)

    def _explain(self, name: str, reason: str) -> None:
        text = f"{reason}\n".encode("utf-8", "backslashreplace")  # names can contain any bytes
        self.replace_file(self.layout.quarantine_reason(name), [text])

    def leave_alone(self, error: SpoolVersionError) -> None:
        """Log, once per file, that only another version of fsqueue can read it."""
        if self._left_alone.add(str(error)):
            log.warning("left alone: %s", error)

    # -- writing ------------------------------------------------------------------------

    def add_file(self, path: str, chunks: Sequence[Buffer]) -> bool:
        """Create a file; False if it already exists, in which case it stays as it is."""
        with self.temporary.file(chunks) as temporary:
            added = self.link_once(temporary, path)
            self.fs.discard(temporary)
        return added

    def append(self, path: str, data: bytes | bytearray) -> None:
        """Append to a file that only this process writes and whose folder may be missing.

        The two folders above it are checked each time: if one of them were a link, an append would
        write outside the spool, unlike a rename.
        """
        folder = os.path.dirname(path)
        if self.fs.is_folder(os.path.dirname(folder)) is False:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", os.path.dirname(folder))
        if not self.fs.is_folder(folder):
            self.check_spool()
            self.clear(folder)
            self.make_folders(folder)
        self.fs.append(path, data)

    def place(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Write a file under a new, unique name. If this raises, there is no such file.

        Dies before the rename: a file in ``tmp/`` expires. Dies after it: the file is there.
        """
        with self.temporary.file(chunks, record=True) as temporary:
            try:
                self.move(temporary, path)
            except OSError:
                # If the temporary file is gone, it was renamed, and only the reply was an error.
                # Checking is the only way to tell, since the reply to a removal can be lost, too.
                if self.fs.exists(temporary):
                    raise

    def replace_file(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Replace a file that only this process writes."""
        with self.temporary.file(chunks) as temporary:
            self.move(temporary, path)
