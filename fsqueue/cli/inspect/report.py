"""``fsqueue report``."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.finding.target import NotFoundError, Target, empty_store
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import print_json
from fsqueue.common.printable import counted, duration, moment
from fsqueue.common.values import parse_duration
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from fsqueue.report.facts import Report, Window
    from fsqueue.report.gather import Sources
    from fsqueue.spool.store.store import Store

_HOUR = 3600.0


class Moment(NamedTuple):
    """A time on the command line."""

    ago: float | None
    """Seconds before now; None if it is an absolute time."""
    at: float

    def time(self, now: float) -> float:
        """Seconds since the epoch."""
        return self.at if self.ago is None else now - self.ago


def _moment(value: str | Moment) -> Moment:
    """The type of an option that is a time: ``2026-11-28T09:00``, or ``6h`` before now."""
    from datetime import datetime

    if isinstance(value, Moment):
        return value
    ago = parse_duration(value)
    if ago is not None:
        return Moment(ago, 0.0)
    try:
        return Moment(None, datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{value!r} is not a time such as 2026-11-28T09:00, nor an age such as 6h"
        ) from error


@subcommand(
    "report",
    "report -o day.html",
    "report --run jq3v8k2m5c -o run.html",
    "report --between 2026-11-28T18:00 2026-11-29T06:00 -o night.html",
)
@on_target
@option("--since", type=seconds(), metavar="AGE", help="The time until now: 90, 15m, 2h (24h).")
@option("--run", metavar="RUN", help="Only the calls of one run: see fsqueue runs.")
@option(
    "--between",
    nargs=2,
    type=_moment,
    metavar="A B",
    help="From A to B: each a local time such as 2026-11-28T09:00, or an age such as 6h.",
)
@option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="The file to write; - for standard output.",
)
@flag(
    "--redact",
    help="Leave out labels, messages, tracebacks, output, hosts, folders and command lines.",
)
@json_option
def command(
    target: Target,
    since: float | None,
    run: str | None,
    between: tuple[Moment, Moment] | None,
    output: Path | None,
    redact: bool,
    as_json: bool,
) -> None:
    """Write a report on a period or on a run, as one HTML file to take home.

    It says how many calls ended and failed, and when, why they failed, what took long, how busy
    workers were, and what needed attention. The file needs no network, has no script, and is at
    most 1 MB. With --json the numbers are written instead.

    --root may also be a copy of a spool's folder journal/, or a folder with such a copy.
    """
    if sum(each is not None for each in (since, run, between)) > 1:
        raise ConfigError("give only one of --since, --run and --between")
    if output is None and not as_json:
        raise ConfigError("name the file to write: -o report.html, or - for standard output")
    found = _made(target, since, run, between)
    if redact:
        from fsqueue.report.redaction import redacted

        found = redacted(found)
    _write(found, output, as_json=as_json)


def _made(
    target: Target,
    since: float | None,
    run: str | None,
    between: tuple[Moment, Moment] | None,
) -> Report:
    from fsqueue.report.facts import Limits
    from fsqueue.report.gather import gather

    sources = _sources(target)
    now = sources.store.clock.now()
    if between is not None:
        window = _between(*(each.time(now) for each in between))
    elif run is not None:
        window = _window_of_run(sources.store, run, now)
    else:
        window = _latest(sources.store, 24 * _HOUR if since is None else since, now)
    found = gather(sources, window, Limits())
    if run is not None and not (found.runs or found.totals.calls):
        raise NotFoundError(f"there is no run {run}: fsqueue runs lists them")
    return found


def _sources(target: Target) -> Sources:
    """The spool, or the copy of a journal that ``--root`` names."""
    from fsqueue import __version__
    from fsqueue.cli.maintain.config import settings_of
    from fsqueue.cli.overview import looks
    from fsqueue.codec import traceback_text
    from fsqueue.report.gather import Sources
    from fsqueue.spool.admin.snapshot import has_spool
    from fsqueue.spool.history.lines import hours_of

    versions = {"fsqueue": __version__, "Python": platform.python_version()}
    root = target.root
    if target.explicit and not has_spool(root):
        for folder in (root, os.path.dirname(root) if os.path.basename(root) == "journal" else ""):
            store = empty_store(folder) if folder else None
            if store is not None and hours_of(store):
                store.files.sync_clock()
                return Sources(store, None, traceback_text, versions, {})
    looking = looks(target)
    snapshot = looking.look().snapshot
    settings = {
        name: each["value"]
        for name, each in settings_of(target.app, root).items()
        if each["source"] != "default" or name == "root"
    }
    return Sources(looking.store, snapshot, traceback_text, versions, settings)


def _between(begin: float, end: float) -> Window:
    from fsqueue.report.facts import Window

    if begin >= end:
        raise ConfigError(f"--between: {moment(begin)} is not before {moment(end)}")
    return Window(begin=begin, end=end)


def _window_of_run(store: Store, run: str, now: float) -> Window:
    """From the start of a run, as far as that is known, until now."""
    from fsqueue.report.facts import Window
    from fsqueue.spool.admin.runs import read_record
    from fsqueue.spool.format.names import is_client_name
    from fsqueue.spool.history.lines import hours_of

    if not is_client_name(run):
        raise ConfigError(f"--run {run}: that is not the name of a run; fsqueue runs lists them")
    record = read_record(store, run)
    oldest = min((began for _, began in hours_of(store)), default=now)
    return Window(begin=min(now, record.started if record else oldest), end=now, run=run)


def _latest(store: Store, since: float, now: float) -> Window:
    """The last `since` seconds, or those before the end of the journal if it is older."""
    from fsqueue.report.facts import Window
    from fsqueue.spool.history.lines import hours_of

    end = max((began + _HOUR for _, began in hours_of(store)), default=now)
    if end > now - since:
        return Window(begin=now - since, end=now)
    note = f"The journal ends in the hour before {moment(end)}"
    return Window(begin=end - since, end=end, note=note)


def _write(report: Report, output: Path | None, *, as_json: bool) -> None:
    import msgspec

    from fsqueue.report.page import html_of

    if as_json and output is None:
        print_json(report)
        return
    data = msgspec.json.encode(report) if as_json else html_of(report).encode()
    if str(output) == "-":
        sys.stdout.buffer.write(data)
        return
    try:
        _replace(str(output), data)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    size = f"{max(1, len(data) // 1000)} kB"
    window = duration(report.window.seconds)
    print(
        f"{output}, {size}: {counted(report.totals.calls, 'call')} ended in {window}, "
        f"{report.totals.failed} failed"
    )


def _replace(path: str, data: bytes) -> None:
    """Write a file that only its owner may read: it holds labels and tracebacks.

    Others may be able to write to the folder, such as /tmp. So the data go to a new file with an
    unpredictable name, and not into a file or link that somebody has put there.
    """
    with tempfile.NamedTemporaryFile(
        dir=os.path.dirname(path) or ".", prefix=".fsqueue-", delete=False
    ) as part:
        try:
            part.write(data)
            part.close()
            os.replace(part.name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part.name)
            raise
