"""The charts of the golden files. ``python tests/monitor/drawings.py`` writes tests/data/charts."""

from __future__ import annotations

import math
from pathlib import Path

from fsqueue.monitor import charts, small_charts
from fsqueue.monitor.charts import Bar, Lane, Range, Series, Tick
from fsqueue.monitor.graphs import Node, graph

FOLDER = Path(__file__).parents[1] / "data" / "charts"
HOUR = charts.even_ticks(["13:17", "13:32", "13:47", "14:02", "14:17"])


def drawings() -> dict[str, str]:
    """Charts by name."""
    done = [2400 + 90 * math.sin(each) for each in range(12)]
    failed = [0, 0, 1, 12, 0, 0, 0, 300, 0, 0, 0, 1]
    titles = [f"13:{each:02d}\n{ok:.0f} succeeded" for each, ok in enumerate(done)]
    backlog = [90_000 - 400 * each for each in range(10)]
    lanes = [
        Lane("cn012", [Bar(0, 0.4, "h3", "fit"), Bar(0.41, 0.411, "bad", "ValueError")]),
        Lane("cn012", []),
        Lane("cn013", [Bar(0.1, 0.9, "ok", "regrid")]),
    ]
    busy = [None, 0.0, 0.2, 0.5, 0.8, 1.0]
    marks = [Tick(0.47, "50 %: 3.1 s"), Tick(0.83, "99 %: 17 s"), Tick(0.8, "95 %: 9.8 s")]
    shares = [("ok", 0.88), ("bad", 1e-6), ("run", 0.05)]
    return {
        "bars": charts.bars(
            [Series("ok", done), Series("bad", failed)], titles, HOUR, label="Ended each minute"
        ),
        "bars-empty": charts.bars([], [], HOUR, label="Nothing ended"),
        "lines": charts.lines(
            backlog,
            HOUR,
            label="Backlog",
            span=0.6,
            projection=[(0.6, 86_400), (0.9, 0)],
            band=[(0.6, 86_400), (0.85, 0), (1.0, 9_000)],
        ),
        "lines-limits": charts.lines([1, 4, 3], HOUR, label="Busy", limits=[4, 4, 8]),
        "lines-empty": charts.lines([], HOUR, label="Nothing"),
        "histogram": charts.histogram(
            [1, 0, 50, 9], list("abcd"), HOUR, marks, label="Run times"
        ),
        "ranges": charts.ranges(
            [Range("cn012", 0.1, 0.3, 0.6), Range("cn014", 0.3, 0.6, 1.0, "bad")],
            charts.even_ticks(["1 s", "30 s"]),
            label="By worker",
        ),
        "heat": charts.heat(
            [[0, 2, 90], [], [1, 400, 3]], ["13:17", "13:47", "14:17"], HOUR,
            [Tick(0.0, "1 s"), Tick(1.0, "4 s")], label="Run times",
        ),
        "graph": graph(
            [
                Node("self", 0, "shop.tasks.render", "wait", ("more",)),
                Node("a", -1, "fetch", "ok", ("self",), "fetch: succeeded"),
                Node("b", -1, "a name that is far too long for a box", "bad", ("self",)),
                Node("more", 1, "regrid \N{MULTIPLICATION SIGN} 8", "wait"),
            ],
            label="It takes the results of 2 calls",
        ),
        "timeline": charts.timeline(lanes, HOUR, label="Attempts"),
        "spark": small_charts.spark([0, 3, 1, 9], kind="bad", label="1 to 9"),
        "columns": small_charts.columns([0, 1, 400, 20]),
        "share-bar": small_charts.share_bar(shares, label="88 % succeeded"),
        "strip": small_charts.strip(busy, [False] * 5 + [True], label="busy"),
        "icon": small_charts.icon("failed"),
    }  # fmt: skip


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in drawings().items():
        (FOLDER / f"{name}.svg").write_text(f"{text}\n", "utf-8")
