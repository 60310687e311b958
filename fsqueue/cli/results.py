"""``fsqueue wait``, ``result`` and ``submit``."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for_futures
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsqueue.cli import exits
from fsqueue.cli.output import as_json as in_json
from fsqueue.cli.output import complain, print_json
from fsqueue.cli.target import (
    AppOption,
    JsonOption,
    NotFoundError,
    RootOption,
    Target,
    TimeoutOption,
    check_id,
    env,
    find_target,
    opened,
    reporting,
)
from fsqueue.errors import ConfigError, TaskNotFoundError, UnknownInvocationError
from fsqueue.spool.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsqueue.spool.store import Store
    from fsqueue.spool.waiter import Waiter
    from fsqueue.task import Task

# An outcome that its caller takes between two looks leaves nothing to wait for; whether that has
# happened takes a search, which is made less and less often.
_FIRST_SEARCH, _LAST_SEARCH = 1.0, 30.0
_GONE = "gone"


def wait(
    invocation_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of calls.")],
    app: AppOption = None,
    root: RootOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until calls have ended, and print how.

    Exit code 0 if all succeeded, 1 if one failed or was cancelled, 4 if one has not ended before
    the timeout. A call whose caller took the result before it could be seen is "gone": code 3.
    """
    with opened(app, root) as target:
        for each in invocation_ids:
            check_id(each)
        states = _ended(target, invocation_ids, timeout)
        if as_json:
            print_json({"states": states})
        else:
            for name, state in states.items():
                print(f"{name} {state}")
        raise typer.Exit(_verdict(set(states.values())))


def _verdict(states: set[str]) -> int:
    if states & {State.PENDING, State.RUNNING}:
        return exits.TIMEOUT
    if _GONE in states:
        return exits.NOT_FOUND
    return exits.OK if states <= {State.SUCCEEDED} else exits.NEGATIVE


def result(
    invocation_id: Annotated[str, typer.Argument(metavar="ID", help="The call's id.")],
    app: AppOption = None,
    root: RootOption = None,
    timeout: TimeoutOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Print the value of a call that has ended.

    As Python shows it (its repr). This unpickles it, which runs code that it names, unless its
    task's serializer is json. Of a failed call the traceback is printed on standard error, and the
    exit code is 1; of one that has not ended it is 4.

    With --json, what JSON does not know is given as its repr.
    """
    with opened(app, root) as target:
        check_id(invocation_id)
        raise typer.Exit(_print_result(target, invocation_id, timeout, as_json=as_json))


def _print_result(
    target: Target, invocation_id: str, timeout: float | None, *, as_json: bool
) -> int:
    state = _ended(target, [invocation_id], timeout)[invocation_id]
    if state == _GONE:
        raise NotFoundError(f"{invocation_id} has ended, and its caller has taken the result")
    if not State(state).finished:
        complain(f"{invocation_id} is {state}: it has no result yet. To wait for it: --timeout")
        return exits.TIMEOUT
    answer = _answer(target.store, invocation_id, unpickles=target.app.conf.serializer != "json")
    if as_json:
        shown = {"value": in_json(answer["value"])} if "value" in answer else {}
        print_json({"id": invocation_id, **answer, **shown})
    elif "value" in answer:
        print(repr(answer["value"]))
    else:
        failure = answer["failure"] or {"type": "?", "message": ""}
        complain(
            f"{invocation_id} {answer['state']}: {failure['type']}: {failure['message']}"
            + (f"\n\n{answer['traceback']}" if answer["traceback"] else "")
        )
    return exits.OK if answer["state"] == State.SUCCEEDED else exits.NEGATIVE


def _answer(store: Store, invocation_id: str, *, unpickles: bool) -> dict[str, Any]:
    """State, and value or failure, of a call that has ended."""
    from fsqueue import codec

    carrier, member = check_id(invocation_id)
    data = store.peek(carrier)
    if data is None:
        raise NotFoundError(f"the result of {invocation_id} was taken or has expired")
    outcome, payload = store.read_outcome(carrier, data)
    if member is None and outcome.members:
        raise ConfigError(
            f"{invocation_id} is a batch of {len(outcome.members)} calls: ask for one of them, "
            f"like {invocation_id}:0"
        )
    state, failure, (segment, buffers) = outcome.part(payload, member)
    if state is State.SUCCEEDED:
        what = f"the result of {invocation_id}"
        codec.check_codec(outcome.codec, what, unpickles=unpickles)
        value = codec.decode(segment, what, buffers, codec=outcome.codec, python=outcome.python)
        return {"state": state, "value": value}
    said = None if failure is None else {"type": failure.type, "message": failure.message}
    trace = codec.traceback_text(segment, outcome.codec) if segment else ""
    return {"state": state, "failure": said, "traceback": trace}


# -- waiting --------------------------------------------------------------------------------


def _ended(target: Target, invocation_ids: Sequence[str], timeout: float | None) -> dict[str, str]:
    """The states of calls, once all have ended or the time is over.

    Raises:
        UnknownInvocationError: one is nowhere in the spool from the beginning.
    """
    store = target.store
    states = {each: _state(store, each) for each in invocation_ids}
    for each, state in states.items():
        if state == _GONE:
            raise UnknownInvocationError(
                f"{store.layout.root} knows no invocation {each}: the id is mistyped, it belongs "
                "to another spool, or its result was taken or has expired"
            )
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    with _waiting(target) as waiter:
        pause = _FIRST_SEARCH
        while open_ids := [each for each, state in states.items() if _is_open(state)]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            _wait_for_one(waiter, {check_id(each)[0] for each in open_ids}, min(left, pause))
            states.update({each: _state(store, each) for each in open_ids})
            pause = min(2 * pause, _LAST_SEARCH)
    return states


def _is_open(state: str) -> bool:
    return state in {State.PENDING, State.RUNNING}


def _state(store: Store, invocation_id: str) -> str:
    from fsqueue.spool.sightings import state_or_failure

    try:
        return str(state_or_failure(store, *check_id(invocation_id)))
    except UnknownInvocationError:
        return _GONE


@contextlib.contextmanager
def _waiting(target: Target) -> Iterator[Waiter]:
    from fsqueue.spool.client import Client

    client = Client(
        target.store,
        events=False,  # the bells are those of others
        poll_interval=target.app.conf.poll_interval,
        on_silence=lambda: True,
    )
    try:
        yield client.waiter
    finally:
        client.close()


def _wait_for_one(waiter: Waiter, carriers: set[str], seconds: float) -> None:
    futures = [waiter.watch(carrier) for carrier in carriers]
    try:
        wait_for_futures(futures, timeout=seconds, return_when=FIRST_COMPLETED)
    finally:
        for future in futures:
            future.cancel()


# -- submit -----------------------------------------------------------------------------------


def submit(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="The task: FUNC, or MODULE.FUNC to be exact.")
    ],
    app: AppOption = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(metavar="JSON", envvar=env("submit-arg"), help="A positional argument."),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=JSON", envvar=env("submit-kwarg"), help="An argument by name."),
    ] = None,
    wait_for_it: Annotated[
        bool,
        typer.Option("--wait", envvar=env("submit-wait"), help="Wait, and print as `result` does."),
    ] = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a call of a task, and print its id.

    Arguments are written in JSON. A text needs its quotes: --arg '"text"'.
    """
    with reporting():
        target = find_target(app, None)
        try:
            found = _find_task(target, task)
            args = [from_json("--arg ", text) for text in arg or []]
            kwargs = dict(named_value(text) for text in kwarg or [])
            invocation_id = _make_call(found, args, kwargs)
            if wait_for_it:
                code = _print_result(target, invocation_id, timeout, as_json=as_json)
                raise typer.Exit(code)
        finally:
            target.app.close()
        if as_json:
            print_json({"id": invocation_id})
        else:
            print(invocation_id)


def _make_call(task: Task[..., Any], args: list[Any], kwargs: dict[str, Any]) -> str:
    if task.forced_inline:
        raise ConfigError("dev_mode_force_sync_tasks is set: the call would run here. Unset it.")
    try:
        call = task.bind(tuple(args), kwargs)
    except TypeError as error:
        raise ConfigError(str(error)) from error
    return task.submit(call.args, call.kwargs).id


def _find_task(target: Target, name: str) -> Task[..., Any]:
    if not target.named:
        raise ConfigError("submit needs the application: give --app MODULE:VARIABLE")
    tasks = target.app.tasks
    if name not in tasks and "." in name:
        try:
            target.app.resolve(name)
        except TaskNotFoundError as error:
            raise NotFoundError(str(error)) from error
    found = [each for key, each in tasks.items() if key == name or key.endswith(f".{name}")]
    if len(found) != 1:
        there = ", ".join(tasks) or "none"
        raise NotFoundError(f"which task is {name!r}? {target.app.app_id} has: {there}")
    return found[0]


def named_value(text: str) -> tuple[str, Any]:
    """What ``--kwarg NAME=JSON`` means.

    Raises:
        ConfigError: it is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"--kwarg {text}: expected NAME=JSON")
    return name, from_json(f"--kwarg {name}=", value)


def from_json(flag: str, text: str) -> Any:
    """The value of a flag, which ends with what stands before its value.

    Raises:
        ConfigError: it is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{flag}{text}: not JSON ({error}). A text needs quotes: {flag}'\"text\"'"
        ) from error
