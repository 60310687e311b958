"""Reads the files of calls, and checks what they say before anything is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.files.checks import check_header, check_place
from fsqueue.spool.format.records import Call

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.format.records import Payload


class Calls:
    """Reads the files of calls."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self, path: str, name: AttemptName) -> tuple[Call, Payload]:
        """Header and payload of a call.

        Args:
            path: where its file is.
            name: the attempt that the file should hold.

        Raises:
            FileNotFoundError: it is not there any more.
            EnvelopeError: damaged or foreign: put it into quarantine.
            SpoolVersionError: a newer version wrote it: leave it alone.
        """
        try:
            data = self._files.read_file(path)
        except PermissionError as error:
            raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
        call, payload = self._files.decode(data, Call, path)
        if call.spool != self._files.info.id:
            self._files.check_spool()
        check_header(call, self._files.info.id, path, name)
        return call, payload

    def read_claimed(self, claim: Claim) -> tuple[Call, Payload]:
        """Header and payload of a claimed call.

        Raises:
            FileNotFoundError: another process has taken the claim away.
            EnvelopeError: damaged, foreign or moved: put it into quarantine.
            SpoolVersionError: a newer version wrote it: give it back.
        """
        call, payload = self.read(claim.path, claim.name)
        check_place(call, claim)
        return call, payload

    def read_header(self, path: str, name: AttemptName) -> Call:
        """Header of a call; raises what `read` raises."""
        return self.read(path, name)[0]
