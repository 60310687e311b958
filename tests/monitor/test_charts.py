"""Charts: what they draw is in golden files, and what must hold for any numbers and text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from drawings import FOLDER, HOUR, drawings
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.monitor import charts, small_charts
from fsqueue.monitor.charts import Bar, Lane, Series, Tick
from fsqueue.monitor.graphs import Node, graph
from fsqueue.monitor.small_charts import share_bar

DRAWN = drawings()
numbers = st.floats(min_value=0, max_value=1e12)
texts = st.text(alphabet=st.characters(), max_size=20)


@pytest.mark.parametrize("name", DRAWN)
def test_each_chart_is_as_in_its_golden_file(name):
    """After a change on purpose: python tests/monitor/drawings.py, and look at them."""
    assert f"{DRAWN[name]}\n" == (FOLDER / f"{name}.svg").read_text("utf-8")


def test_there_is_a_golden_file_for_each_chart_and_no_other():
    assert {path.stem for path in FOLDER.iterdir()} == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_charts_have_no_inline_style_and_a_label_or_none_for_screen_readers(name):
    root = ET.fromstring(DRAWN[name])
    assert not any("style" in each.attrib for each in root.iter())
    assert root.attrib.get("aria-hidden") == "true" or root.attrib["aria-label"]


@given(st.lists(numbers, max_size=8), texts, texts)
def test_any_numbers_and_texts_give_a_well_formed_chart(values, label, title):
    titles = [title] * len(values)
    ticks = [Tick(0.5, title)]
    lanes = [Lane(title, [Bar(0.2, 0.3, "ok", title)])]
    for text in (
        charts.bars([Series("ok", values)], titles, ticks, label=label),
        charts.lines(values, ticks, label=label),
        charts.histogram(values, titles, ticks, ticks, label=label),
        charts.timeline(lanes, ticks, label=label),
        charts.heat([values, []], [title] * 2, ticks, ticks, label=label),
        graph([Node(title, 0, title, "ok", ["x"]), Node("x", 1, label, "bad")], label=label),
        small_charts.spark(values, label=label),
        small_charts.columns(values, label=label),
    ):
        root = ET.fromstring(text)
        assert "nan" not in text
        assert {each.tag.rpartition("}")[2] for each in root.iter()} <= {
            "svg", "g", "rect", "path", "line", "text", "title", "circle"
        }  # fmt: skip


@given(st.floats(min_value=1e-12, max_value=1))
def test_a_value_above_zero_never_vanishes(share):
    filled = ET.fromstring(share_bar([("ok", 1 - share), ("bad", share)]))
    widths = {each.attrib["class"]: float(each.attrib["width"]) for each in filled}
    assert widths["f-bad"] >= 2
    assert share == 1 or widths["f-ok"] >= 2
    assert share == 1 or widths["f-ok"] + widths["f-bad"] == pytest.approx(180, abs=2.1)


def test_a_timeline_has_at_most_4000_bars_and_still_shows_a_failure():
    attempts = [Bar(n / 5000, (n + 1) / 5000, "h3", "") for n in range(4999)]
    lanes = [Lane("w", [*attempts, Bar(0.9998, 1.0, "bad", "")])] * 10
    drawn = charts.timeline(lanes, HOUR, label="")
    assert drawn.count("<rect") <= charts.MOST_BARS + len(lanes)
    assert drawn.count("f-bad") == len(lanes)


@given(numbers)
def test_axes_end_at_a_round_number_that_is_not_below_the_largest_value(value):
    most = charts.nice(value)
    assert most >= value * (1 - 1e-9)
    assert most <= max(1.0, 2.51 * value)
    assert f"{most:.15g}".replace(".", "").strip("0")[:1] in {"1", "2", "5"}
