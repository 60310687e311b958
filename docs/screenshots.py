"""Draws docs/status.svg, docs/top.svg and docs/monitor.png from a real spool with busy workers.

``python docs/screenshots.py`` writes them again; it takes a few seconds. The names of the
hosts and of the folder are replaced.
"""

from __future__ import annotations

import io
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace
from page_screenshot import draw_page
from rich.console import Console, Group
from rich.text import Text

from fsqueue import FSQueue
from fsqueue.cli.overview import status_parts
from fsqueue.cli.screen.cells import sequence
from fsqueue.cli.screen.view import Look, View
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.glance import Looks

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.admin.snapshot import WorkerInfo
    from fsqueue.spool.history.statistics import WorkerStats

HERE = Path(__file__).resolve().parent
WIDTH = 128
HEIGHT = 24
SECONDS = 6.0
F = TypeVar("F", bound="Callable[..., object]")
DICE = random.Random(1)  # noqa: S311


def of_the_shop(function: F) -> F:
    """Give a function the module that users would have it in."""
    function.__module__ = "shop.tasks"
    return function


@of_the_shop
def render(page: int) -> int:
    """Take some time."""
    time.sleep(DICE.lognormvariate(-2.5, 0.8))
    return page


@of_the_shop
def parse(text: str) -> int:
    """Fail for texts that are no numbers."""
    time.sleep(0.004)
    return int(text)


@of_the_shop
def index(_shelf: int) -> None:
    """Take long."""
    time.sleep(DICE.uniform(0.8, 2.0))


def new_names(glance: Glance) -> dict[str, str]:
    """What to call the workers."""
    names = sorted(
        {each.name for each in glance.snapshot.workers}
        | {each.worker for each in glance.recent.workers}
    )
    return {
        name: f"node{number}-{number * 2113}-{name[-6:]}" for number, name in enumerate(names, 1)
    }


def renamed(glance: Glance) -> Glance:
    """The same for a folder and hosts of other names."""
    census, recent, new = glance.snapshot, glance.recent, new_names(glance)

    def sight(worker: WorkerInfo) -> WorkerInfo:
        return replace(worker, name=new[worker.name])

    def stats(worker: WorkerStats) -> WorkerStats:
        return replace(worker, worker=new[worker.worker])

    return replace(
        glance,
        snapshot=replace(census, root="/shared/queue", workers=tuple(map(sight, census.workers))),
        recent=replace(recent, workers=tuple(map(stats, recent.workers))),
    )


def draw(name: str, parts: Group) -> None:
    """Write one picture."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=WIDTH,
        highlight=False,
        markup=False,
        force_terminal=True,
    )
    console.print(parts)
    svg = console.export_svg(title=f"fsqueue {name}", unique_id=name)
    (HERE / f"{name}.svg").write_text(svg, "utf-8")


def screen_of_top(glance: Glance) -> Group:
    """What `top` shows on a terminal."""
    lines = View(2.0).lines(Look(glance, 0.0), WIDTH, HEIGHT)
    texts = [
        "".join(f"{sequence(style, colour=True)}{text}" for text, style in line) for line in lines
    ]
    return Group(*map(Text.from_ansi, texts))


def main() -> None:
    """Let two workers work for some seconds, and look at them."""
    with tempfile.TemporaryDirectory() as root:
        app = FSQueue("shop", root=root, heartbeat=0.5)
        tasks = [app.task(function) for function in (render, parse)]
        runners = [app.make_runner(concurrency=slots) for slots in (4, 8)]
        threads = [threading.Thread(target=runner.run) for runner in runners]
        for thread in threads:
            thread.start()
        slow = app.task(index, queue="archive", running_concurrency="task")
        serving = app.make_runner(concurrency=2, queues={"archive": 1.0})
        threads.append(threading.Thread(target=serving.run))
        threads[-1].start()
        began = time.monotonic()
        for number in range(10_000):
            tasks[0](number)
            tasks[1](str(number) if number % 31 else "a dozen")
            if number % 20 == 0:
                slow(number)
            if time.monotonic() - began > SECONDS:
                break
            time.sleep(0.008)
        tasks[0].options(countdown=90)(0)
        controls.pause(app.store, "shop.archive")
        looks = Looks(app.store, heartbeat=app.conf.heartbeat, result_ttl=app.conf.result_ttl)
        found = looks.take()
        looked = renamed(found)
        draw_page(root, {root: "/shared/queue", **new_names(found)})
        controls.resume(app.store, "shop.archive")
        draw("status", Group(*status_parts(looked, 0.0)))
        draw("top", screen_of_top(looked))
        for runner in (*runners, serving):
            runner.stop_runner_loop()
        for thread in threads:
            thread.join()
        app.close()


if __name__ == "__main__":
    main()
