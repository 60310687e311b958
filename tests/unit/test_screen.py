"""The screen of `top`: the least output that changes it, keys, and how room is shared."""

import pyte
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsqueue.cli.screen.cells import Painter, Span, clipped, fitted, width_of
from fsqueue.cli.screen.keys import split_keys
from fsqueue.cli.screen.view import Marks, _shares

STYLES = ["", "bold", "bad", "reverse accent"]
TEXTS = st.text(st.sampled_from("ab  é漢字x"), max_size=14)
LINES = st.lists(st.lists(st.builds(Span, TEXTS, st.sampled_from(STYLES)), max_size=3), max_size=5)
SIZES = st.tuples(st.integers(2, 20), st.integers(1, 6))


def shown(screen):
    """Characters and styles of a screen."""
    return [
        [
            (cell.data, cell.fg, cell.bold, cell.reverse)
            for cell in (screen.buffer[row][column] for column in range(screen.columns))
        ]
        for row in range(screen.lines)
    ]


@given(st.lists(st.tuples(LINES, SIZES), min_size=2, max_size=6))
@example([([[Span("字")]], (2, 1)), ([[Span("a")]], (2, 1))])
def test_changes_lead_to_the_same_screen_as_drawing_it_afresh(frames):
    painter = Painter(colour=True)
    screen = pyte.Screen(20, 6)
    screen.reset_mode(7, private=True)  # no line breaks at the margin
    stream = pyte.Stream(screen)
    for lines, (width, height) in frames:
        if (screen.columns, screen.lines) != (width, height):
            screen.resize(height, width)
        stream.feed(painter.paint(lines, width, height))
        fresh = pyte.Screen(width, height)
        fresh.reset_mode(7, private=True)
        pyte.Stream(fresh).feed(Painter(colour=True).paint(lines, width, height))
        assert shown(screen) == shown(fresh)


def test_a_screen_that_stays_the_same_costs_nothing():
    painter = Painter(colour=True)
    lines = [[Span("a"), Span("b", "bad")]] * 3
    assert painter.paint(lines, 10, 3)
    assert painter.paint(lines, 10, 3) == ""
    assert painter.paint([*lines[:2], [Span("a"), Span("c", "bad")]], 10, 3).count("H") == 1


def test_without_colour_only_attributes_are_written():
    painted = Painter(colour=False).paint([[Span("a", "bold bad")]], 4, 1)
    assert "\x1b[0;1m" in painted
    assert "31" not in painted


@given(st.text(), st.integers(1, 30), st.booleans())
def test_a_fitted_text_has_exactly_its_width(text, width, right):
    assert width_of(fitted(text, width, right=right)) == width


@given(st.lists(st.builds(Span, TEXTS), max_size=4), st.integers(1, 20))
def test_a_line_that_does_not_fit_says_so(line, width):
    cut = clipped(line, width, "~")
    whole = "".join(each.text for each in line)
    text = "".join(each.text for each in cut)
    assert width_of(text) <= width
    assert text == whole or "~" in text


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("q", ["q"]),
        ("\x1b[A\x1bOB\x1b[5~\x1b[1;5C", ["up", "down", "page-up", "right"]),
        ("\x1b", ["escape"]),
        ("\x1b\x1b[A", ["escape", "up"]),
        ("\t\x1b[Z\r\x7f", ["tab", "back-tab", "enter", "backspace"]),
        ("é\x00\x1b[200~x", ["é", "x"]),
    ],
)
def test_names_of_keys(text, keys):
    assert split_keys(text, complete=True) == (keys, "")
    for split in range(len(text)):
        first, rest = split_keys(text[:split], complete=False)
        second, rest = split_keys(rest + text[split:], complete=True)
        assert (first + second, rest) == (keys, "")


@given(st.lists(st.integers(0, 50), max_size=4), st.integers(-5, 100))
def test_room_is_shared_out(wanted, room):
    shares = _shares(wanted, room)
    assert sum(shares) == max(0, min(room, sum(wanted)))
    assert all(share <= want for share, want in zip(shares, wanted, strict=True))


def test_marks_for_a_terminal_without_unicode():
    assert Marks.of("utf-8").more == "…"
    assert all(each.isascii() for each in Marks.of("ascii"))
