"""Functions and arguments as parts of a call. Large parts are stored once, as blobs.

A part is a tuple of the pickled value, the digest of the blob that holds it if it is large, and the
digests of its buffers, each a large array. Blobs are named by their content, so a function whose
globals have changed becomes a new blob, and no content is stored twice.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fsqueue import codec
from fsqueue.codec import PYTHON, decode, encode
from fsqueue.errors import EnvelopeError, InvocationCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.features.blobs import Blobs
    from fsqueue.spool.store.store import Store

Part: TypeAlias = "tuple[bytes, str, tuple[str, ...]]"

NO_BLOBS: Final = ("", ())
"""The digests of a part that is stored entirely in the call."""
LARGE: Final = 1 << 15
"""Size in bytes from which a part or a buffer is stored in a blob."""
uncopied: Callable[[Any], Any] = partial(codec.uncopied, large=LARGE)
"""Large bytes in a form that `Packer.pack` stores as a buffer; other values unchanged."""
# Seconds for which a blob that was stored or touched is not touched again.
_FRESH = 10.0
_MOST_KNOWN = 64


class Packer:
    """Makes parts, and stores their blobs.

    Args:
        store: returns the spool.
        ttl: seconds for which blobs are kept after their last use.
    """

    def __init__(self, store: Callable[[], Store], ttl: float) -> None:
        self._store, self._fresh = store, min(_FRESH, ttl / 2)
        self._stored: dict[str, float] = {}
        # `bytes` cannot change, so their digests are cached by `id`; this keeps the object alive.
        self._digests: dict[int, tuple[bytes, str]] = {}

    def pack(
        self,
        value: Any,
        what: str,
        place: Callable[[str], str] | None = None,
        *,
        again: bool = True,
    ) -> Part:
        """Serialize a value.

        Args:
            what: names it in errors.
            place: see `encode`.
            again: other calls may have an equal value, so a large one is stored as a blob. Large
                arrays always are.

        Raises:
            SerializationError: it cannot be serialized.
            OSError: a blob could not be written.
        """
        buffers: list[memoryview] = []
        data = encode(value, what, buffers, place=place, large=LARGE)
        digests = tuple(map(self._digest, buffers))
        if not again or len(data) < LARGE:
            return data, "", digests
        return b"", self._put(data, ()), digests

    def keep(self, part: Part) -> bool:
        """Keep the blobs of a part that was packed before; False if one is missing.

        Raises:
            OSError: the shared directory failed.
        """
        for digest in filter(None, (part[1], *part[2])):
            if not self._is_fresh(digest):
                if not self._store().blobs.touch(digest):
                    return False
                self._stored[digest] = time.monotonic()
        return True

    def _digest(self, buffer: memoryview) -> str:
        source = buffer.obj
        if type(source) is not bytes or len(source) != buffer.nbytes:
            return self._put(b"", (buffer,))
        known = self._digests.get(id(source))
        if known is None or known[0] is not source:
            known = self._digests[id(source)] = (source, self._put(b"", (buffer,)))
            while len(self._digests) > _MOST_KNOWN:
                del self._digests[next(iter(self._digests))]
        elif not self._is_fresh(known[1]):
            self._put(b"", (buffer,))
        return known[1]

    def _is_fresh(self, digest: str) -> bool:
        return time.monotonic() - self._stored.get(digest, float("-inf")) < self._fresh

    def _put(self, data: bytes, buffers: tuple[Buffer, ...]) -> str:
        digest = self._store().blobs.put(data, buffers, is_fresh=self._is_fresh)
        if not self._is_fresh(digest):
            self._stored[digest] = time.monotonic()
            while len(self._stored) > _MOST_KNOWN:
                del self._stored[next(iter(self._stored))]
        return digest


def unpack(part: Part, what: str, blobs: Blobs) -> Any:
    """Load the value of a part; each call returns a new copy. Blobs are read once per process.

    Raises:
        DeserializationError: it cannot be loaded here.
        InvocationCorruptError: a blob is missing or damaged.
        OSError: the shared directory failed.
    """
    inline, digest, digests = part
    try:
        data = blobs.fetch(digest).data if digest else inline
        buffers = [blobs.get(each).buffers[0] for each in digests]
    except EnvelopeError as error:
        raise InvocationCorruptError(str(error)) from error
    return decode(data, what, buffers, python=PYTHON)
