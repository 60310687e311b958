"""``fsqueue config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import find_target, report_errors
from fsqueue.cli.options import app_option, json_option, root_option
from fsqueue.cli.output import print_json, print_table

if TYPE_CHECKING:
    from fsqueue.app import FSQueue
    from fsqueue.task import Task


@subcommand("config", "config", "config --app tasks --json")
@app_option
@root_option
@json_option
def command(app: str | None, root: Path | None, as_json: bool) -> None:
    """Show each setting, and where its value comes from.

    Also shows the options of the application's tasks that differ from the default.
    """
    with report_errors():
        target = find_target(app, root)
        settings = settings_of(target.app, target.root)
        tasks = {name: _options(target.app, task) for name, task in target.app.tasks.items()}
        if as_json:
            print_json({"settings": settings, "tasks": tasks})
            return
        heads = ("SETTING", "VALUE", "SOURCE")
        print_table(
            heads, [(name, _shown(each), each["source"]) for name, each in settings.items()]
        )
        rows = [
            (task, name, _shown(each), each["source"])
            for task, options in sorted(tasks.items())
            for name, each in options.items()
            if each["source"] != "default"
        ]
        if rows:
            print()
            print_table(("TASK", "OPTION", "VALUE", "SOURCE"), rows)


def settings_of(app: FSQueue, root: str) -> dict[str, dict[str, Any]]:
    """Each setting, with its value and the source of the value."""
    from fsqueue.config import fields

    found = {
        name: {"value": _plain(getattr(app.conf, name)), "source": app.conf.source(name)}
        for name in fields()
    }
    found["root"]["value"] = root  # the default, if none is set
    return found


def _options(app: FSQueue, task: Task[..., Any]) -> dict[str, dict[str, Any]]:
    """The options of a task. Those that no other source sets come from the decorator."""
    from fsqueue.calls.options import CallSettings, settings_of
    from fsqueue.common.fields import describe

    offers = [offer for offer in app.conf.task_offers if offer.is_for(task.name)]
    offered = settings_of(task.name, {}, offers)
    sources = {offer.option: offer.source for offer in offers}
    found = {}
    for name in describe(CallSettings):
        value = getattr(task.settings, name)
        source = sources.get(name, "default") if value == getattr(offered, name) else "decorator"
        found[name] = {"value": _plain(value), "source": source}
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _shown(each: dict[str, Any]) -> str:
    return "unset" if each["value"] is None else str(each["value"])
