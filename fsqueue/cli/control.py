"""``fsqueue cancel``, ``retry``, ``purge``, ``pause``, ``resume``, ``drain`` and ``gc``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fsqueue.cli import exits
from fsqueue.cli.output import complain, confirm, counted, print_json
from fsqueue.cli.target import (
    AppOption,
    JsonOption,
    NotFoundError,
    RootOption,
    TimeoutOption,
    YesOption,
    check_id,
    env,
    find_queue,
    opened,
    seconds_of,
)
from fsqueue.errors import ConfigError, EnvelopeError

if TYPE_CHECKING:
    from fsqueue.spool.controls import FailedCall
    from fsqueue.spool.store import Store

QueueArgument = Annotated[
    str, typer.Argument(metavar="QUEUE", help="The queue: NAME, or APPLICATION.NAME to be exact.")
]
# How often it is looked whether workers have left.
_LOOK = 0.2


def cancel(
    invocation_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of calls.")],
    app: AppOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel calls: whoever waits for one gets CancelledError.

    A pending call never starts. One that runs is killed by a worker with process slots; with
    threads its body goes on. The calls of one batch are cancelled together.

    Exit code 1 if one had ended before.
    """
    from fsqueue.spool import lookup

    with opened(app, root) as target:
        carriers = {each: check_id(each)[0] for each in invocation_ids}
        store = target.store
        done = {each: lookup.cancel(store, carrier, None) for each, carrier in carriers.items()}
        if as_json:
            print_json({"cancelled": done})
        else:
            for name, cancelled in done.items():
                print(f"{name} {'cancelled' if cancelled else 'had ended before'}")
        raise typer.Exit(exits.OK if all(done.values()) else exits.NEGATIVE)


def retry(
    invocation_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids of failed calls.")
    ] = None,
    app: AppOption = None,
    root: RootOption = None,
    all_failed: Annotated[
        bool,
        typer.Option("--all-failed", envvar=env("retry-all-failed"), help="All that have failed."),
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE.FUNC",
            envvar=env("retry-task"),
            help="With --all-failed: of this task only.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run failed calls again.

    Each as a new call, whose id is printed: the failed one keeps its outcome. A caller that has
    seen the failure is not told. Of a batch all calls run again.
    """
    with opened(app, root) as target:
        if bool(invocation_ids) == all_failed or (task and not all_failed):
            raise ConfigError("which calls? Give their ids, or --all-failed, with --task or not")
        store = target.store
        calls = _failed(store, invocation_ids or [], task or "")
        made, problems = _retry(store, calls)
        if as_json:
            print_json({"retried": made, "problems": problems})
        else:
            for old, new in made.items():
                print(f"{old} runs again as {new}")
            print(f"retried: {counted(len(made), 'call')}")
        for problem in problems.values():
            complain(problem)
        raise typer.Exit(exits.NEGATIVE if problems else exits.OK)


def _failed(store: Store, invocation_ids: list[str], task: str) -> list[FailedCall]:
    from fsqueue.spool.controls import retryable

    if not invocation_ids:
        return list(retryable(store, task))
    there = {failed.id: failed for failed in retryable(store)}
    carriers = [check_id(each)[0] for each in invocation_ids]
    for each in carriers:
        if each not in there:
            raise NotFoundError(
                f"there is no failed call {each} in {store.layout.failed_folder}: it did not "
                "fail, was retried already, or has expired"
            )
    return [there[each] for each in dict.fromkeys(carriers)]


def _retry(store: Store, calls: list[FailedCall]) -> tuple[dict[str, str], dict[str, str]]:
    """New ids by old ones, and what went wrong."""
    from fsqueue.spool.controls import retry_failed

    made, problems = {}, {}
    for failed in calls:
        try:
            new = retry_failed(store, failed)
        except EnvelopeError as error:  # one damaged file must not keep the others from running
            problems[failed.id] = str(error)
            continue
        if new is not None:
            made[failed.id] = new
    return made, problems


# -- queues -----------------------------------------------------------------------------------


def purge(
    queue: QueueArgument,
    app: AppOption = None,
    root: RootOption = None,
    yes: YesOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", envvar=env("purge-dry-run"), help="Only say what would be done."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel all pending calls of a queue.

    Also those that are due later, or wait for others, and whatever resources they need. Whoever
    waits for one gets CancelledError. What runs goes on.
    """
    from fsqueue.spool import controls
    from fsqueue.spool.sightings import parked_calls, pending_calls

    with opened(app, root) as target:
        store = target.store
        name = find_queue(target, store, queue)
        folders = controls.folders(store, name)
        count = sum(len(list(calls(store, folders))) for calls in (pending_calls, parked_calls))
        if dry_run:
            _say(
                {"queue": name, "would_cancel": count},
                as_json,
                f"{name}: {counted(count, 'call')} pending",
            )
            return
        if not yes:
            confirm(f"Cancel {counted(count, 'pending call')} of {name} in {store.layout.root}?")
        done = controls.purge(store, name)
        _say(
            {"queue": name, **done._asdict()},
            as_json,
            f"{name}: {counted(done.cancelled, 'call')} cancelled"
            + (f", {done.started} started meanwhile" if done.started else ""),
        )


def pause(
    queue: QueueArgument,
    app: AppOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let no worker start calls of a queue, until `resume`.

    Calls can still be made. Workers notice within two seconds. What runs goes on, and may run the
    calls that it waits for.
    """
    from fsqueue.spool import controls

    with opened(app, root) as target:
        store = target.store
        name = find_queue(target, store, queue)
        changed = controls.pause(store, name)
        said = f"{name} is paused" if changed else f"{name} was paused already"
        _say({"queue": name, "changed": changed}, as_json, said)


def resume(
    queue: QueueArgument,
    app: AppOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the pause of a queue."""
    from fsqueue.spool import controls

    with opened(app, root) as target:
        store = target.store
        name = find_queue(target, store, queue)
        changed = controls.resume(store, name)
        said = f"{name} is open again" if changed else f"{name} was not paused"
        _say({"queue": name, "changed": changed}, as_json, said)


def _say(document: dict[str, object], as_json: bool, text: str) -> None:
    if as_json:
        print_json(document)
    else:
        print(text)


# -- workers ------------------------------------------------------------------------------------


def drain(
    worker: Annotated[
        str | None, typer.Argument(metavar="WORKER", help="Its name, as `workers` lists it.")
    ] = None,
    app: AppOption = None,
    root: RootOption = None,
    everyone: Annotated[
        bool, typer.Option("--all", envvar=env("drain-all"), help="All workers of the spool.")
    ] = False,
    wait_for_it: Annotated[
        bool, typer.Option("--wait", envvar=env("drain-wait"), help="Wait until they have left.")
    ] = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask workers, on any host, to finish and leave.

    What they run ends first, as on SIGTERM. They notice at their next heartbeat.
    """
    from fsqueue.spool import controls

    with opened(app, root) as target:
        if (worker is None) != everyone:
            raise ConfigError("which workers? Give a name, or --all")
        store = target.store
        names = _to_drain(store, target.app.conf.heartbeat, worker)
        asked = [name for name in names if controls.request_drain(store, name)]
        if worker is not None and not asked:
            raise NotFoundError(f"worker {worker} has just left")
        left = not wait_for_it or _have_left(store, asked, timeout)
        if as_json:
            print_json({"asked": asked, "left": left if wait_for_it else None})
        else:
            for name in asked:
                print(f"{name} was asked to leave")
            print(
                "all have left"
                if wait_for_it and left
                else f"asked: {counted(len(asked), 'worker')}"
            )
        if not left:
            complain("not all have left yet")
            raise typer.Exit(exits.TIMEOUT)


def _to_drain(store: Store, heartbeat: float, worker: str | None) -> list[str]:
    from fsqueue.spool.census import NESTED, look_at_workers

    there = look_at_workers(store, heartbeat=heartbeat)
    # A claimant within a body leaves together with its worker.
    names = [each.name for each in there if each.state != "dead" and each.runner != NESTED]
    if worker is None:
        return names
    if worker not in names:
        raise NotFoundError(f"there is no worker {worker}; there are: {', '.join(names) or 'none'}")
    return [worker]


def _have_left(store: Store, names: list[str], timeout: float | None) -> bool:
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    records = {f"{name}.json" for name in names}
    while records.intersection(store.fs.names(store.layout.workers_folder, fresh=True)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK)
    return True


# -- gc -------------------------------------------------------------------------------------------


def gc(
    app: AppOption = None,
    root: RootOption = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            envvar=env("gc-older-than"),
            help="Instead of result_ttl and journal_ttl: 90, 15m, 2h, 7d.",
        ),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            envvar=env("gc-cache"),
            help="Also all results of call_result_cache, however young.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove now what has expired.

    Results, failed calls, quarantined files, journals, and what crashes have left. Workers do this
    every few minutes by themselves. Files in tmp/ stay for a day at least, as a write may go on
    there.
    """
    from fsqueue.spool.expiry import expire_by_kind

    with opened(app, root) as target:
        conf, given = target.app.conf, None if older_than is None else seconds_of(older_than)
        removed = expire_by_kind(
            target.store,
            result_ttl=conf.result_ttl if given is None else given,
            journal_ttl=conf.journal_ttl if given is None else given,
        )._asdict()
        if cache:
            removed["cached_results"] += target.store.cache.clear()
        if as_json:
            print_json({"removed": removed})
            return
        for kind, count in removed.items():
            print(f"{count:>7}  {kind.replace('_', ' ')}")
