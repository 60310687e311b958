"""``fsqueue logs``."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING

import click

from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.finding.target import Target, check_id
from fsqueue.cli.options import id_argument, json_option, on_target
from fsqueue.cli.output import print_error, print_json, printable_output
from fsqueue.errors import ConfigError, UnknownInvocationError

if TYPE_CHECKING:
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.format.states import State
    from fsqueue.spool.store.store import Store

# Seconds between two reads of the output.
_PAUSE = 0.5
# Reads between two searches of the spool, which show whether the call has ended.
_SEARCH_EVERY = 4


@subcommand("logs", "logs jq3v8k2m5c-7 --follow")
@id_argument
@on_target
@option(
    "--attempt",
    type=click.IntRange(min=1, max=1_000_000_000),
    metavar="NUMBER",
    help="Attempt to show (default: the one with the outcome, or else the latest).",
)
@flag(
    "--follow",
    "-f",
    help="Keep printing until the call has ended, through all its attempts, or until Ctrl-C.",
)
@json_option
def command(
    target: Target, invocation_id: str, attempt: int | None, follow: bool, as_json: bool
) -> None:
    """Print what a call has printed and logged, even while it runs.

    The task needs the option capture_output. Workers write the output twice a second. If a call
    prints more than 1 MiB, the middle is cut out. The calls of a batch share one output.

    Anyone who can write into the spool may have written this text. Control characters are shown as
    Python escapes.
    """
    from fsqueue.spool.features.body_reports import latest_output, read_output
    from fsqueue.spool.format.names import AttemptName

    if follow and (as_json or attempt is not None):
        raise ConfigError("--follow cannot be combined with --json or --attempt: leave one out")
    carrier, _ = check_id(invocation_id)
    store = target.look()
    if follow:
        _follow(store, carrier)
        return
    name = AttemptName(carrier, attempt) if attempt else latest_output(store.files, carrier)
    data = read_output(store.files, name)
    if not data:
        _state(store, carrier)  # raises if there is no such call
    text = data.decode("utf-8", "replace")
    if as_json:
        print_json({"id": carrier, "attempt": name.attempt, "output": text})
    elif text:
        _write(text)
    else:
        print_error(
            f"attempt {name.attempt} of {carrier} has no output. Does its task have the option "
            "capture_output?"
        )


def _state(store: Store, carrier: str) -> State:
    from fsqueue.spool.admin.listing import state_or_failure

    return state_or_failure(store, carrier, None)


def _write(text: str) -> None:
    sys.stdout.write(printable_output(text))
    if not text.endswith("\n"):
        sys.stdout.write("\n")


class _Tail:
    """Prints the new output of one attempt."""

    def __init__(self, store: Store, name: AttemptName) -> None:
        self._store, self.name = store, name
        self._start = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def print(self) -> None:
        from fsqueue.spool.features.body_reports import read_output

        data = read_output(self._store.files, self.name, self._start)
        self._start += len(data)
        sys.stdout.write(printable_output(self._decode(data)))
        sys.stdout.flush()


def _follow(store: Store, carrier: str) -> None:
    from fsqueue.spool.features.body_reports import outputs_of
    from fsqueue.spool.format.names import AttemptName

    tail = _Tail(store, AttemptName(carrier, 1))
    ended = False
    rounds = 0
    while True:
        later = [each for each in outputs_of(store.files, carrier) if each > tail.name]
        tail.print()
        for name in later:
            tail = _Tail(store, name)
            tail.print()
        if ended:
            return
        ended = rounds % _SEARCH_EVERY == 0 and _has_ended(store, carrier, first=rounds == 0)
        rounds += 1
        if not ended:
            time.sleep(_PAUSE)


def _has_ended(store: Store, carrier: str, *, first: bool) -> bool:
    try:
        return _state(store, carrier).finished
    except UnknownInvocationError:
        if first:
            raise
        return True  # its caller has collected the result
