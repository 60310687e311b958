"""Shell completion of applications, tasks, queues, workers and ids of calls.

A shell starts a process for each press of TAB, so this imports no application and opens no spool:
it parses sources, and lists folders. It lists at most `_MOST_ENTRIES` entries, and changes nothing.
Words that cannot be found are left out without a message, which would garble the prompt.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click

    from fsqueue.cli.finding.guess import AppSource
    from fsqueue.spool.format.layout import Layout

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_MOST_ENTRIES: Final = 20_000
_MOST_WORDS: Final = 200
_JOURNALS, _JOURNAL_TAIL = 8, 1 << 16


def applications(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The applications of the current folder: MODULE, or MODULE:VARIABLE if it has several."""
    from fsqueue.cli.finding.discovery import import_folders
    from fsqueue.cli.finding.guess import applications_in

    found = [name for folder in import_folders() for name in applications_in(folder)]
    modules = [name.partition(":")[0] for name in found]
    names = [m if modules.count(m) == 1 else name for m, name in zip(modules, found, strict=True)]
    return _items(((name, "") for name in names), incomplete)


def tasks(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The tasks in the sources of the folder, and those whose calls ended recently."""
    from fsqueue.cli.finding.discovery import import_folders
    from fsqueue.cli.finding.guess import tasks_in

    found = dict.fromkeys(task for folder in import_folders() for task in tasks_in(folder))
    if (layout := _spool(context)) is not None:
        found |= dict.fromkeys(_recent_tasks(layout))
    return _items(((name, "") for name in found), incomplete)


def short_tasks(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Tasks as `submit` takes them: FUNC where that is enough, and MODULE.FUNC."""
    full = [str(each.value) for each in tasks(context, parameter, "")]
    short = [name.rpartition(".")[2] for name in full]
    names = [each for each in short if short.count(each) == 1] + full
    return _items(((name, "") for name in names), incomplete)


def queues(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The queues of the spool: NAME, or APPLICATION.NAME if several applications have it."""
    layout = _spool(context)
    if layout is None:
        return []
    folders = {each.name.partition("@")[0] for each in _entries(layout.pending_folder)}
    folders = {name for name in folders if "." in name[1:]}
    short = [name.rpartition(".")[2] for name in sorted(folders)]
    names = [each for each in short if short.count(each) == 1] + sorted(folders)
    return _items(((name, "") for name in names), incomplete)


def workers(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The workers that are registered."""
    layout = _spool(context)
    names = [] if layout is None else sorted(e.name for e in _entries(layout.workers_folder))
    return _items(((name, "") for name in names if "." not in name), incomplete)


def calls(*states: str) -> Completer:
    """Complete the ids of calls in some of the states pending, running, failed and ended."""

    def complete(
        context: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        layout = _spool(context)
        if layout is None:
            return []
        found = ((name, state) for state in states for name in _ids(layout, state, incomplete))
        given = set(context.params.get("invocation_ids") or ())
        return _items((each for each in found if each[0] not in given), incomplete)

    return complete


# -- the spool ------------------------------------------------------------------------------


def _spool(context: click.Context) -> Layout | None:
    """The paths of the spool that the command will use; None if they are not known."""
    from fsqueue.config import load_config
    from fsqueue.environment.machine import default_root
    from fsqueue.errors import FSQueueError
    from fsqueue.spool.format.layout import Layout

    try:
        root = context.params.get("root") or load_config({}).root
        source = _source(context)
        if not context.params.get("root") and source is not None:
            root = source.root or root or (default_root(source.app_id) if source.app_id else None)
    except (FSQueueError, OSError):
        return None
    return None if root is None else Layout(os.path.abspath(root))


def _source(context: click.Context) -> AppSource | None:
    from fsqueue.cli.finding.discovery import import_folders, name_of_application
    from fsqueue.cli.finding.guess import read_application
    from fsqueue.errors import ConfigError

    found = name_of_application(context.params.get("app") or context.params.get("application"))
    return None if isinstance(found, ConfigError) else read_application(found[0], import_folders())


class _Place(NamedTuple):
    folder: str
    depth: int
    """How many folders down the files are."""


def _ids(layout: Layout, state: str, incomplete: str) -> Iterator[str]:
    """The ids of the calls in a state, in no order."""
    client = incomplete.rpartition("-")[0]
    mailbox = (f"/{client}", 0) if client else ("", 1)
    places = {
        "pending": [
            _Place(layout.pending_folder, 2),
            _Place(layout.after_folder, 1),
            _Place(layout.lanes_folder, 2),
        ],
        "running": [_Place(layout.running_folder, 1)],
        "failed": [_Place(layout.failed_folder, 0)],
        "ended": [
            _Place(folder + mailbox[0], mailbox[1])
            for folder in (layout.done_folder, layout.kept_folder)
        ],
    }
    for place in places[state]:
        for name in itertools.islice(_files(*place), _MOST_ENTRIES):
            identifier = name.partition(".")[0]
            if "-" in identifier:
                yield identifier


def _files(folder: str, depth: int) -> Iterator[str]:
    for entry in _entries(folder):
        if depth:
            yield from _files(entry.path, depth - 1)
        else:
            yield entry.name


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from itertools.islice(found, _MOST_ENTRIES)
    except OSError:
        return  # missing, or closed to this user


def _recent_tasks(layout: Layout) -> Iterator[str]:
    """The tasks in the latest lines of the journals of the last two hours with any."""
    hours = sorted((each.path for each in _entries(layout.journal_folder)), reverse=True)[:2]
    files = [e.path for hour in hours for e in _entries(hour) if e.name.endswith(".sums")]
    for path in files[:_JOURNALS]:
        try:
            with open(path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _JOURNAL_TAIL))
                lines = file.read(_JOURNAL_TAIL).splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                yield from map(str, json.loads(line)["tasks"])
            except (ValueError, TypeError, KeyError):
                continue  # cut off, damaged or without tasks


def _items(found: Iterator[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    fit = {name: note for name, note in found if name.startswith(incomplete) and name.isprintable()}
    return [CompletionItem(name, help=note or None) for name, note in [*fit.items()][:_MOST_WORDS]]
