"""Results that stand for those of later calls: ``cache/<key>``, outcomes as they were published.

An outcome says under which key it may lie there, and its digest holds that, so a file under
another name is refused. Its age is counted from the end of its body, by the file server's clock.
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
    from fsqueue.spool.format.records import Payload
    from fsqueue.spool.store.files import Files

log = logging.getLogger(__name__)


class Cached(NamedTuple):
    """A result that may stand for another."""

    outcome: Outcome
    payload: Payload
    content: Content
    """Both, as they were read."""


class ResultCache:
    """One process's access to ``cache/``. Outcomes get there when they are published.

    Args:
        files: the files of the spool.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def get(self, key: str, ttl: float, *, fresh: bool = False) -> Cached | None:
        """The result under a key, unless it is too old.

        Whatever is wrong with it, or with the shared directory, makes it a miss; what is damaged is
        set aside.

        Args:
            key: of the call.
            ttl: how old it may be, in seconds.
            fresh: do not take "no such file" from a network filesystem's cache.
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
            log.warning("into quarantine, and the call runs: %s", error)
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
            raise EnvelopeError(f"{path} holds a result that is not for this name")
        if outcome.state is not State.SUCCEEDED or outcome.members:
            raise EnvelopeError(f"{path} holds no result of a call")
        return Cached(outcome, payload, content)

    def clear(self) -> int:
        """Remove all results; returns how many there were."""
        return sum(self._discard(name) for name in self._names())

    def expire(self, ttl: float) -> int:
        """Remove the results that are older than `ttl` seconds, and than their own time to live."""
        store, removed = self._files, 0
        for name in self._names():
            path = store.layout.cached(name)
            try:
                if store.clock.now() - store.fs.modified(path) > ttl and self._is_over(path, name):
                    removed += self._discard(name)
            except (OSError, SpoolError) as error:
                log.info("cannot expire %s: %s", path, error)
        return removed

    def _is_over(self, path: str, name: str) -> bool:
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
