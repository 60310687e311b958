"""Large values that many calls share: stored once, under the digest of their content."""

from __future__ import annotations

import errno
import hmac
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.digests import digest_of

if TYPE_CHECKING:
    from fsqueue.spool.outcomes import Outcomes

# What a process keeps of the blobs that it has read, in bytes; the latest one always.
_CACHE_LIMIT = 1 << 28
_DIGEST = re.compile(r"[0-9a-f]{32}\.(\d{1,15})", re.ASCII)


class Blobs:
    """One process's access to ``blobs/``.

    Args:
        store: the spool.
    """

    def __init__(self, store: Outcomes) -> None:
        self._store = store
        self._mutex = threading.Lock()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._damaged: dict[str, str] = {}

    def put(self, data: bytes) -> str:
        """Store a value, if it is not there yet; returns its digest.

        Dies before the link: a file in ``tmp/`` expires. Dies after it: the blob expires when
        nobody has used it for long. Lost reply: it is there, which is all that counts.
        """
        store, digest = self._store, self._digest(data)
        if not self.touch(digest):
            store.add_file(store.layout.blob(digest), [data])
        return digest

    def touch(self, digest: str, when: float | None = None) -> bool:
        """Keep a blob from expiring; False if it is not there.

        Args:
            digest: the blob.
            when: as if it was used at this time, by the file server's clock; None is now.
        """
        path = self._store.layout.blob(digest)
        try:
            self._store.fs.set_time(path, when)
        except PermissionError:  # another member of the group made it, who alone may choose
            self._store.fs.set_time(path, None)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
            return False
        return True

    def get(self, digest: str) -> bytes:
        """The value of a digest; read once and then remembered.

        Raises:
            EnvelopeError: it is missing or damaged.
        """
        with self._mutex:  # so that two threads that need it do not read it twice
            if digest not in self._cache:
                self._remember(digest, self._read(digest))
            self._cache.move_to_end(digest)
            return self._cache[digest]

    def _read(self, digest: str) -> bytes:
        path, match = self._store.layout.blob(digest), _DIGEST.fullmatch(digest)
        if match is None:
            raise EnvelopeError(f"{digest!r} is not the digest of a blob")
        size = int(match[1])
        try:
            return self._read_whole(path, digest, size)
        except FileNotFoundError as error:
            missing = f"{path} is missing: it holds the common arguments of a fan-out"
            raise EnvelopeError(self._damaged.get(digest, missing)) from error
        except EnvelopeError as error:
            # Out of the way of whoever stores this value again.
            name = self._store.free_name(path)
            self._store.set_aside(path, str(error), name)
            where = self._store.layout.quarantined(name)
            message = f"{error}. The file lies in {where}; make the calls again."
            self._damaged[digest] = message
            raise EnvelopeError(message) from error

    def _read_whole(self, path: str, digest: str, size: int) -> bytes:
        try:
            data = self._store.fs.read(path, lambda *_: size, fresh=True)
        except PermissionError as error:
            raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
        if not hmac.compare_digest(self._digest(data), digest):
            raise EnvelopeError(f"{path} is damaged: its content is not that of its name")
        return data

    def _remember(self, digest: str, data: bytes) -> None:
        self._cache[digest] = data
        while len(self._cache) > 1 and sum(map(len, self._cache.values())) > _CACHE_LIMIT:
            self._cache.popitem(last=False)

    def _digest(self, data: bytes) -> str:
        """The digest, and the size: so a reader knows how much memory it may take."""
        return f"{digest_of('blob', [data], self._store.key)}.{len(data)}"
