"""``fsqueue logs``."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fsqueue.cli.output import complain, print_json, printable_output
from fsqueue.cli.target import AppOption, JsonOption, RootOption, check_id, env, opened
from fsqueue.errors import ConfigError, UnknownInvocationError

if TYPE_CHECKING:
    from fsqueue.spool.names import AttemptName
    from fsqueue.spool.states import State
    from fsqueue.spool.store import Store

_LOOK = 0.5
# Whether the call has ended takes a search: not at each look.
_SEARCH_EVERY = 4


_Id = Annotated[str, typer.Argument(metavar="ID", help="The call's id.")]
_Attempt = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        envvar=env("logs-attempt"),
        help="Of this attempt; by default the one that gave the outcome, or the latest.",
    ),
]
_Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        "-f",
        envvar=env("logs-follow"),
        help="Go on until the call has ended, through all its attempts; or until Ctrl-C.",
    ),
]


def logs(
    invocation_id: _Id,
    app: AppOption = None,
    root: RootOption = None,
    attempt: _Attempt = None,
    follow: _Follow = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a call has printed and logged, also while it runs.

    Its task must have the option capture_output. Workers write it twice a second; of one call that
    printed more than 1 MiB the middle is cut out. The calls of a batch have one output.

    It is text that anybody may have written who may write into the spool. Control characters are
    shown as Python writes them.
    """
    from fsqueue.spool.names import AttemptName
    from fsqueue.spool.reports import latest_output, read_output

    with opened(app, root) as target:
        if follow and (as_json or attempt is not None):
            raise ConfigError("--follow goes neither with --json nor with --attempt: leave it out")
        carrier, _ = check_id(invocation_id)
        store = target.store
        if follow:
            _follow(store, carrier)
            return
        name = AttemptName(carrier, attempt) if attempt else latest_output(store, carrier)
        data = read_output(store, name)
        if not data:
            _state(store, carrier)  # raises where there is no such call
        text = data.decode("utf-8", "replace")
        if as_json:
            print_json({"id": carrier, "attempt": name.attempt, "output": text})
        elif text:
            _write(text)
        else:
            complain(
                f"attempt {name.attempt} of {carrier} has printed nothing. Has its task the option "
                "capture_output?"
            )


def _state(store: Store, carrier: str) -> State:
    from fsqueue.spool.sightings import state_or_failure

    return state_or_failure(store, carrier, None)


def _write(text: str) -> None:
    sys.stdout.write(printable_output(text))
    if not text.endswith("\n"):
        sys.stdout.write("\n")


class _Tail:
    """Prints what is new."""

    def __init__(self, store: Store, name: AttemptName) -> None:
        self._store, self.name = store, name
        self._start = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def print(self) -> None:
        from fsqueue.spool.reports import read_output

        data = read_output(self._store, self.name, self._start)
        self._start += len(data)
        sys.stdout.write(printable_output(self._decode(data)))
        sys.stdout.flush()


def _follow(store: Store, carrier: str) -> None:
    from fsqueue.spool.names import AttemptName
    from fsqueue.spool.reports import outputs_of

    tail = _Tail(store, AttemptName(carrier, 1))
    ended = False
    looks = 0
    while True:
        later = [each for each in outputs_of(store, carrier) if each > tail.name]
        tail.print()
        for name in later:
            tail = _Tail(store, name)
            tail.print()
        if ended:
            return
        ended = looks % _SEARCH_EVERY == 0 and _has_ended(store, carrier, first=looks == 0)
        looks += 1
        if not ended:
            time.sleep(_LOOK)


def _has_ended(store: Store, carrier: str, *, first: bool) -> bool:
    try:
        return _state(store, carrier).finished
    except UnknownInvocationError:
        if first:
            raise
        return True  # its caller has taken the result
