"""Reads calls' files, and validates them before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.files.checks import check_header, check_place
from fsqueue.spool.format.records import Call

if TYPE_CHECKING:
    from fsqueue.spool.disk.content import Content
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.format.records import Payload


class Calls:
    """Reads calls' files."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self, path: str, name: AttemptName) -> tuple[Call, Payload]:
        """Header and payload of a call.

        Args:
            path: the call's file.
            name: the attempt that the file should contain.

        Raises:
            FileNotFoundError: the file is gone.
            EnvelopeError: the file is damaged or foreign: quarantine it.
            SpoolVersionError: a newer version wrote it: leave it alone.
        """
        try:
            content = self._files.read_file(path)
        except PermissionError as error:
            raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
        return self._decode(content, path, name)

    def _decode(self, content: Content, path: str, name: AttemptName) -> tuple[Call, Payload]:
        call, payload = self._files.decode(content, Call, path)
        if call.spool != self._files.info.id:
            self._files.check_spool()
        check_header(call, self._files.info.id, path, name)
        return call, payload

    def read_claimed(self, claim: Claim) -> tuple[Call, Payload]:
        """Header and payload of a claimed call, from its file or from what was read before.

        Raises:
            FileNotFoundError: another process took the claim away.
            EnvelopeError: the file is damaged, foreign or moved: quarantine it.
            SpoolVersionError: a newer version wrote it: give it back.
        """
        if claim.record is None:
            call, payload = self.read(claim.path, claim.name)
        else:
            call, payload = self._decode([claim.record], claim.path, claim.name)
        check_place(call, claim)
        return call, payload

    def read_header(self, path: str, name: AttemptName) -> Call:
        """A call's header; raises the same errors as `read`."""
        return self.read(path, name)[0]
