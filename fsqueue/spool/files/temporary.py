"""Writes temporary files and links under ``tmp/``, which no other process reads yet."""

from __future__ import annotations

import contextlib
import itertools
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.capacity import explained
from fsqueue.spool.disk.link_records import NO_LINK, link_text
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout

T = TypeVar("T")


class WithFolder(Protocol):
    """See `Files.with_folder`."""

    def __call__(self, path: str, step: Callable[[], T]) -> T:
        """Run the step."""
        ...


class TemporaryFiles:
    """One process's files under ``tmp/``.

    Args:
        longest_link: the longest text of a symbolic link; 0 to write records as files.
        with_folder: runs a step that creates a file whose folder may have been removed.

    Attributes:
        longest_link: as given; set to 0 once this host turns out not to support links.
    """

    def __init__(
        self, filesystem: Filesystem, layout: Layout, longest_link: int, with_folder: WithFolder
    ) -> None:
        self._fs, self._root = filesystem, layout.root
        self.longest_link: int = longest_link
        self._with_folder = with_folder
        self._prefix = f"{layout.tmp_folder}/{new_token()}"
        self._serial = itertools.count()

    @contextlib.contextmanager
    def file(
        self, chunks: Sequence[Buffer] | None = None, *, record: bool = False
    ) -> Iterator[str]:
        """The path of a new file, as a context manager; the block moves or removes the file.

        If `chunks` is None, the block creates the file. If the block raises, the file is removed,
        even if a signal handler raised just before the block would have done that, or between two
        of its steps. This must be a generator: dropping it closes it, and closing removes the file.
        A `record` is never written again, so it may be a link.
        """
        path = f"{self._prefix}.{next(self._serial)}"
        try:
            as_link = record and self.longest_link > 0
            if chunks is not None and not (as_link and self._make_record(path, chunks)):
                self.create(path, chunks)
            yield path
        except BaseException:
            with contextlib.suppress(OSError):
                self._fs.discard(path)
            raise

    def _make_record(self, path: str, chunks: Sequence[Buffer]) -> bool | None:
        return self._with_folder(path, partial(self.make_link, path, chunks))

    def create(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Write a new file under a name that no other process reads yet.

        Raises:
            StorageError: the file does not fit on the disk.
            OSError: the shared directory failed in another way.
        """
        try:
            try:
                self._fs.create(path, chunks)
            except FileNotFoundError:
                self._with_folder(path, partial(self._fs.create, path, chunks))
        except OSError as error:
            self._raise(error, chunks)

    def _raise(self, error: OSError, chunks: Sequence[Buffer]) -> NoReturn:
        refused = explained(error, self._fs, self._root, sum(map(len, chunks)))
        if refused is error:
            raise error
        raise refused from error

    def make_link(self, path: str, chunks: Sequence[Buffer]) -> bool | None:
        """Make a record as a symbolic link unless the name exists; False if it does.

        Lost reply: the name exists, and the link has this text.

        Args:
            chunks: its content, which no other process writes under this name.

        Returns:
            None if it cannot be a link and must be a file.

        Raises:
            StorageError: the disk is full.
            OSError: the shared directory failed in another way.
        """
        text = link_text(chunks, self.longest_link)
        if text is None:
            return None
        try:
            self._fs.create_link(path, text)
        except FileExistsError:
            return self._is_link(path, b"".join(chunks))
        except OSError as error:
            if error.errno not in NO_LINK:
                self._raise(error, chunks)
            self.longest_link = 0  # this host's kernel or mount does not allow links
            return None
        return True

    def _is_link(self, path: str, content: bytes) -> bool:
        try:
            return self._fs.read_content(path, lambda *_: [], link_first=True) == [content]
        except (EnvelopeError, FileNotFoundError):
            return False
