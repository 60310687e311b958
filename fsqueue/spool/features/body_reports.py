"""Progress reports and captured output of running tasks.

Both are only displayed: the queue never acts on them, never unpickles them, and does not sign them.
Each attempt has at most one file of each kind, written by its worker:

- ``progress/<id>.<attempt>``: the latest report, replaced as a whole. Dies before the rename: a
  file in ``tmp/`` expires. Dies after it, or the reply is lost: the report is there. The worker
  removes it when the attempt ends. If the worker dies, a reaper removes it, or it expires.
- ``output/<id>.<attempt>``: grows in place. The writer keeps track of the position, so a piece
  whose reply was lost is written again to the same place. Dies: what was written is there, perhaps
  with half a line at its end. It expires like a result.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.files import whereabouts
from fsqueue.spool.files.headers import outcome_of
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files

log: logging.Logger = logging.getLogger(__name__)

OUTPUT_LIMIT: Final = 1 << 20
"""The most bytes of a file of captured output."""
LONGEST_MESSAGE: Final = 200
"""The most characters of a progress message; the rest is cut off."""
_LONGEST_REPORT = 1 << 12


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress that a task has reported.

    Attributes:
        done: how much is done, in any unit.
        total: how much there is to do, in the same unit; None if unknown.
        message: what the task is doing.
    """

    done: float
    total: float | None = None
    message: str = ""

    @property
    def fraction(self) -> float | None:
        """The completed fraction, from 0 to 1; None if unknown."""
        if not self.total or not math.isfinite(self.done / self.total):
            return None
        return min(1.0, max(0.0, self.done / self.total))

    def __str__(self) -> str:
        count = f"{self.done:g}" if self.total is None else f"{self.done:g}/{self.total:g}"
        percent = "" if self.fraction is None else f"{self.fraction:.0%} "
        return f"{percent}({count}){' ' * bool(self.message)}{self.message}"


def write_progress(files: Files, name: AttemptName, progress: Progress) -> None:
    """Replace the progress report of an attempt."""
    files.replace_file(files.layout.progress(name), [msgspec.json.encode(progress)])


def read_progress(files: Files, name: AttemptName) -> Progress | None:
    """The latest report of an attempt; None if there is none, or it cannot be read."""
    try:
        data = files.fs.read_part(files.layout.progress(name), _LONGEST_REPORT)
        found = msgspec.json.decode(data, type=Progress)
    except (OSError, EnvelopeError, *UNDECODABLE):
        return None
    return msgspec.structs.replace(found, message=found.message[:LONGEST_MESSAGE])


def reporting_attempts(files: Files) -> dict[str, AttemptName]:
    """The latest attempt with a progress report, by invocation."""
    return _latest(files, files.layout.progress_folder)


def _latest(files: Files, folder: str) -> dict[str, AttemptName]:
    names = (AttemptName.parse(text) for text in files.fs.names(folder, fresh=True))
    ordered = sorted((name for name in names if name), key=lambda name: name.attempt)
    return {name.invocation_id: name for name in ordered}


def progress_of(files: Files, invocation_id: str) -> Progress | None:
    """The latest report of an invocation; None if there is none."""
    name = reporting_attempts(files).get(invocation_id)
    return None if name is None else read_progress(files, name)


def latest_output(files: Files, invocation_id: str) -> AttemptName:
    """The attempt whose output to show: the one with the outcome, or else the latest.

    This checks for the outcome and, if there is none, lists the output files of all attempts.
    """
    outcome = outcome_of(files, invocation_id)
    if outcome is not None:
        return AttemptName(invocation_id, outcome.attempt)
    first = AttemptName(invocation_id, 1)
    return _latest(files, files.layout.output_folder).get(invocation_id, first)


def outputs_of(files: Files, invocation_id: str) -> list[AttemptName]:
    """The attempts of an invocation that have output, in order. Lists all output files."""
    names = map(AttemptName.parse, files.fs.names(files.layout.output_folder, fresh=True))
    return sorted(name for name in names if name and name.invocation_id == invocation_id)


def read_output(files: Files, name: AttemptName, start: int = 0) -> bytes:
    """The output of an attempt so far; empty if there is none or it cannot be read.

    Args:
        start: how many bytes to skip at the beginning.
    """
    left = OUTPUT_LIMIT - start
    if left <= 0:
        return b""
    try:
        return files.fs.read_part(files.layout.output(name), left, start)
    except (OSError, EnvelopeError):
        return b""


def drop_progress(files: Files, name: AttemptName) -> bool:
    """Remove the report of an attempt that has ended; False if it could not, which does no harm."""
    try:
        files.fs.discard(files.layout.progress(name))
    except OSError as error:
        log.info("cannot remove the progress report of %s: %s", name, error)
        return False
    return True


def remove_stale_progress(files: Files) -> int:
    """Remove the reports of attempts that no worker has claimed; returns how many.

    An attempt that is claimed again meanwhile may lose its report until it writes the next one.
    """
    fs, layout = files.fs, files.layout
    reported = fs.names(
        layout.progress_folder, fresh=True
    )  # listed first, since tasks report only while they run
    if not reported:
        return 0
    held = {layout.reported(name) for _, name, _ in whereabouts.held(files)}
    names = (AttemptName.parse(text) for text in reported)
    return sum(drop_progress(files, name) for name in names if name and name not in held)
