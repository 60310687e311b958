"""The result cache: outcomes in ``cache/<key>`` that also answer later calls with the same key.

An outcome's header contains its key and is covered by the digest, so a file under another name is
refused. Its age counts from the end of the task, by the file server's clock.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import EnvelopeError, SpoolError, SpoolVersionError
from fsqueue.spool.format.names import is_key_name
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from fsqueue.spool.disk.content import Content
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.records import Payload

log: logging.Logger = logging.getLogger(__name__)


class Cached(NamedTuple):
    """A cached result."""

    outcome: Outcome
    payload: Payload
    content: Content
    """The file's content, from which both were decoded."""


class ResultCache:
    """Looks up and expires results in ``cache/``. Outcomes are added when they are published."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def get(self, key: str, ttl: float, *, fresh: bool = False) -> Cached | None:
        """The cached result for a key; None if there is none or it is too old.

        Any error, including errors of the shared directory, counts as a miss. Damaged files are set
        aside.

        Args:
            key: the call's cache key.
            ttl: the greatest age of the result, in seconds.
            fresh: do not accept "no such file" from a network filesystem's cache.
        """
        path = self._files.layout.cached(key)
        try:
            found = self._read(path, key, fresh=fresh)
        except FileNotFoundError:
            return None
        except SpoolVersionError as error:
            self._files.leave_alone(error)
            return None
        except (EnvelopeError, PermissionError) as error:
            log.warning("a cached result goes into quarantine, and the call runs: %s", error)
            with contextlib.suppress(OSError, SpoolError):
                self._files.set_aside(path, str(error))
            return None
        except OSError as error:
            log.info("%s is passed over: %s", path, error)
            return None
        return None if self._files.clock.now() - found.outcome.ended > ttl else found

    def _read(self, path: str, key: str, *, fresh: bool = False) -> Cached:
        store = self._files
        content = store.read_file(path, fresh=fresh)
        outcome, payload = store.decode(content, Outcome, path)
        if (outcome.cache, outcome.spool) != (key, store.info.id):
            raise EnvelopeError(f"{path} holds a result of another cache key or spool")
        if outcome.state is not State.SUCCEEDED or outcome.members:
            raise EnvelopeError(f"{path} does not hold the result of a single successful call")
        return Cached(outcome, payload, content)

    def clear(self) -> int:
        """Remove all results; returns how many were removed."""
        return sum(self._discard(name) for name in self._names())

    def expire(self, ttl: float) -> int:
        """Remove the results that are older than both `ttl` seconds and their own time to live."""
        store, removed = self._files, 0
        for name in self._names():
            path = store.layout.cached(name)
            try:
                if store.clock.now() - store.fs.modified(path) > ttl and self._is_expired(
                    path, name
                ):
                    removed += self._discard(name)
            except (OSError, SpoolError) as error:
                log.info("cannot expire %s: %s", path, error)
        return removed

    def _is_expired(self, path: str, name: str) -> bool:
        try:
            outcome = self._read(path, name).outcome
        except SpoolVersionError:
            raise
        except EnvelopeError:
            return True
        return self._files.clock.now() - outcome.ended > outcome.cache_ttl

    def _names(self) -> list[str]:
        return list(filter(is_key_name, self._files.fs.names(self._files.layout.cache_folder)))

    def _discard(self, name: str) -> bool:
        try:
            self._files.fs.unlink(self._files.layout.cached(name))
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            return False
        return True
