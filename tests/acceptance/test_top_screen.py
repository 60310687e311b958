"""`fsqueue top` on real terminals: sizes, keys, colours, and how it leaves them."""

import os
import re
import signal
from functools import partial

import pytest
from crowd import add_calls, add_workers, count_for_all
from support import open_store, wait_until
from top_screen import top

from fsqueue.cli import exits

SIZES = [(80, 24), (100, 30), (200, 60)]
HINTS = "q quit"
WORKER = re.compile(r"node-\d+-aaaaaa +(alive|dead|silent)")


@pytest.fixture
def crowded(tmp_path):
    """Make a spool with this many workers, which one of them has counted."""

    def make(workers, queues=("shop.default",)):
        root = tmp_path / f"of-{workers}"
        store = open_store(root)
        store.files.sync_clock()
        add_workers(store, workers)
        for queue in queues:
            add_calls(store, 3, 2, queue)
        count_for_all(store)
        return root

    return make


def numbers(pattern, text):
    return sum(map(int, re.findall(pattern, text)))


def is_complete(workers, columns, rows):
    """Whether each worker is on the screen, or among those that it says are hidden."""
    body = "\n".join(rows)
    if HINTS not in rows[-1] or "fsqueue top" not in rows[0]:
        return False
    seen = sum(bool(WORKER.search(row)) for row in rows)
    hidden = numbers(r"and (\d+) more:", body) + numbers(r"(\d+) rows hidden", body)
    return seen + hidden == workers and all(len(row) <= columns for row in rows)


@pytest.mark.parametrize("workers", [0, 1, 41, 200])
def test_each_worker_is_shown_or_counted_as_hidden_at_each_size(crowded, workers):
    root = crowded(workers)
    with top(root, *SIZES[0]) as shown:
        for columns, lines in [*SIZES, *SIZES[::-1], (132, 43), (40, 12)]:
            shown.resize(columns, lines)

            shown.wait_for(
                partial(is_complete, workers, columns), f"{workers} workers at {columns}x{lines}"
            )
            assert ("Workers  none" in shown.text) == (not workers)
            if (columns, lines) == (200, 60) and 0 < workers <= 41:
                assert sum(bool(WORKER.search(row)) for row in shown.lines) == workers
        shown.press("q")
        assert shown.wait_for_end() == exits.OK
        assert b"Traceback" not in shown.received


def test_keys(crowded):
    with top(crowded(41), 100, 30) as shown:
        shown.wait_for("> shop.default")
        shown.press("\t")  # to the workers
        shown.wait_for("> node-0-aaaaaa")
        shown.press("jj\x1b[B")
        shown.wait_for(lambda rows: any(row.startswith("> node-11-") for row in rows), "4th row")
        shown.press("G")
        shown.wait_for("> node-9-aaaaaa")
        assert "above" in shown.text
        shown.press("s")
        shown.wait_for("WORKER▴")
        shown.press("S")
        shown.wait_for("WORKER▾")
        shown.press("/node-3\r")
        shown.wait_for("only rows with 'node-3'")
        assert numbers(r"(\d+) with the text", shown.lines[-1]) == 0
        assert "11 with the text" in shown.text
        shown.press("\x1b")
        shown.wait_for("and 2")
        shown.press("g\r")
        shown.wait_for("fsqueue drain node-")
        shown.press("\x1b")
        shown.wait_for(HINTS)
        shown.press(" ")
        shown.wait_for("▸ Workers")
        assert not WORKER.search(shown.text)
        shown.press(" ")
        shown.wait_for("▾ Workers")
        shown.press("h")
        shown.wait_for("draw the screen again")
        shown.press("h")
        shown.wait_for(HINTS)
        shown.press("p")
        shown.wait_for("paused")
        shown.press("pq")
        assert shown.wait_for_end() == exits.OK


def test_q_in_a_filter_is_a_letter(crowded):
    with top(crowded(1)) as shown:
        shown.wait_for(HINTS)
        shown.press("/q")
        shown.wait_for("/q")
        shown.press("\x7fnode\r")
        shown.wait_for("only rows with 'node'")
        shown.press("q")
        assert shown.wait_for_end() == exits.OK


def test_figures_that_are_old_show_their_age(crowded):
    root = crowded(1)
    store = open_store(root)
    store.files.sync_clock()
    count_for_all(store, -10.0)
    with top(root) as shown:
        shown.wait_for(lambda rows: re.search(r"counted 1\ds ago", rows[0]), "the age")


@pytest.mark.parametrize("colour", [True, False])
def test_colours_only_repeat_words(crowded, colour):
    """A queue that nobody serves is red, and says so."""
    env = {} if colour else {"NO_COLOR": "1"}
    with top(crowded(1), **env) as shown:
        shown.wait_for("not served")
        row = next(number for number, line in enumerate(shown.lines) if "shop.default" in line)
        column = shown.lines[row].index("not served")
        assert shown.screen.buffer[row][column].fg == ("red" if colour else "default")
        colours = {cell.fg for line in shown.screen.buffer.values() for cell in line.values()}
        assert (colours == {"default"}) == (not colour)


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_the_terminal_as_it_was(crowded, end):
    with top(crowded(1)) as shown:
        shown.wait_for(HINTS)
        assert shown.modes_now != shown.modes
        if isinstance(end, str):
            shown.press(end)
        else:
            os.kill(shown.pid, end)
        status = shown.wait_for_end()
        assert status == (exits.OK if isinstance(end, str) else 128 + end)
        assert shown.modes_now == shown.modes
        assert shown.received.endswith(b"\x1b[?1049l")


def test_it_gives_the_terminal_back_while_it_is_suspended(crowded):
    with top(crowded(1)) as shown:
        shown.wait_for(HINTS)
        shown.press("\x1a")

        def stopped():
            shown.read()
            pid, status = os.waitpid(shown.pid, os.WUNTRACED | os.WNOHANG)
            return pid and os.WIFSTOPPED(status)

        wait_until(stopped, "it stops")
        assert shown.modes_now == shown.modes
        shown.screen.reset()
        os.kill(shown.pid, signal.SIGCONT)
        shown.wait_for(HINTS)
        shown.press("q")
        assert shown.wait_for_end() == exits.OK


def test_a_spool_that_is_gone_for_a_while(crowded):
    root = crowded(1)
    with top(root, 80, 24, "--interval", "0.1") as shown:
        shown.wait_for(HINTS)
        root.rename(root.with_suffix(".gone"))
        shown.wait_for("! the shared directory fails")
        assert "node-0-aaaaaa" in shown.text
        root.with_suffix(".gone").rename(root)
        shown.wait_for(lambda rows: "fails" not in "\n".join(rows), "it is back")
        shown.press("q")
        assert shown.wait_for_end() == exits.OK
