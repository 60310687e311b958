"""Blobs: large values that many calls share, stored once under the digest of their content."""

from __future__ import annotations

import errno
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.records import Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.files.files import Files

# How many bytes of blobs a process caches. It always keeps the latest blob.
_CACHE_LIMIT = 1 << 28
# How many damaged blobs a process remembers, with what was wrong with each.
_MOST_DAMAGED = 1_000
_DIGEST = re.compile(r"[0-9a-f]{32}")
_KIND = "blob"


class Blobs:
    """Reads and writes ``blobs/``, with a cache for this process."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._mutex = threading.Lock()
        self._cache: OrderedDict[str, Payload] = OrderedDict()
        self._damaged: dict[str, str] = {}

    def put(
        self,
        data: bytes,
        buffers: Sequence[Buffer] = (),
        *,
        is_fresh: Callable[[str], bool] = lambda _: False,
    ) -> str:
        """Store a value unless it is already stored; returns its digest.

        Dies before the link: a file in ``tmp/`` expires. Dies after it: the blob expires once it
        has not been used for long enough. Lost reply: the blob is there, which is all that matters.

        Args:
            data: the value.
            buffers: its large parts.
            is_fresh: tells whether the blob with a digest is known to exist and is far from
                expiring.
        """
        files = self._files
        digest, chunks = envelope.seal(_KIND, [data], files.key, buffers)
        if not is_fresh(digest) and not self.touch(digest):
            files.add_file(files.layout.blob(digest), chunks)
        return digest

    def touch(self, digest: str, when: float | None = None) -> bool:
        """Keep a blob from expiring; False if it does not exist.

        Args:
            digest: the blob's digest.
            when: the time at which it will be used, by the file server's clock; None means now.
        """
        path = self._files.layout.blob(digest)
        try:
            self._files.fs.set_time(path, when)
        except PermissionError:  # made by another group member, and only its owner may set a time
            self._files.fs.set_time(path, None)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return False
        return True

    def get(self, digest: str) -> Payload:
        """The value with a digest, cached after the first read.

        Each caller gets its own copy of writable buffers. The rest is shared.

        Raises:
            EnvelopeError: the blob is missing or damaged.
        """
        data, buffers = self.fetch(digest)
        return Payload(data, [_own(buffer) for buffer in buffers])

    def fetch(self, digest: str) -> Payload:
        """Load a value into this process's cache unless it is there; returns the cached value.

        Raises:
            EnvelopeError: the blob is missing or damaged.
        """
        with self._mutex:  # so that two threads do not read it twice
            if digest not in self._cache:
                self._remember(digest, self._read(digest))
            self._cache.move_to_end(digest)
            return self._cache[digest]

    def _read(self, digest: str) -> Payload:
        path = self._files.layout.blob(digest)
        if _DIGEST.fullmatch(digest) is None:
            raise EnvelopeError(f"{digest!r} is not the digest of a blob")
        try:
            return self._read_whole(path, digest)
        except FileNotFoundError as error:
            missing = f"{path} is missing: it holds the common arguments of a fan-out"
            raise EnvelopeError(self._damaged.get(digest, missing)) from error
        except (EnvelopeError, SpoolVersionError) as error:
            # Move it out of the way, so that this value can be stored again.
            name = self._files.free_name(path)
            self._files.set_aside(path, str(error), name)
            where = self._files.layout.quarantined(name)
            message = f"{error}. The file lies in {where}; make the calls again."
            self._damaged[digest] = message
            if len(self._damaged) > _MOST_DAMAGED:
                del self._damaged[next(iter(self._damaged))]
            raise EnvelopeError(message) from error

    def _read_whole(self, path: str, digest: str) -> Payload:
        try:
            content = self._files.read_file(path, fresh=True)
        except PermissionError as error:
            raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
        found = envelope.unseal(content, path, self._files.key)
        if (found.kind, found.digest) != (_KIND, digest):
            raise EnvelopeError(f"{path} is damaged: its content is not that of its name")
        return found.payload

    def _remember(self, digest: str, payload: Payload) -> None:
        self._cache[digest] = payload
        while len(self._cache) > 1 and sum(map(_size, self._cache.values())) > _CACHE_LIMIT:
            self._cache.popitem(last=False)


def _own(buffer: Buffer) -> Buffer:
    return bytearray(buffer) if isinstance(buffer, bytearray) else buffer


def _size(payload: Payload) -> int:
    return sum(map(len, payload.chunks))
