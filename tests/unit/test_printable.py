"""Text from files cannot give commands to a terminal or add lines to a log."""

from __future__ import annotations

import io
import json
import logging

import pytest

from fsqueue.cli.output import print_error, print_json
from fsqueue.common.logs import JsonFormatter, TextFormatter
from fsqueue.common.printable import indented, printable

FORGED = "2026-01-01 00:00:00,000 ERROR forged"
BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
COMMANDS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\x08", "\x00", "\x7f", "\u202e", "\ud800"]


@pytest.fixture(params=["fsqueue.runner.attempt.execute", "fsqueue", "fsqueue.calls"])
def own(request):
    return request.param


def formatted(formatter, name, text, **more):
    """What a handler with this formatter writes."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    record = logging.makeLogRecord({"name": name, "levelname": "ERROR", "msg": text, **more})
    handler.handle(record)
    return out.getvalue()


def fail(text):
    raise ValueError(text)


def raised(text):
    """What `sys.exc_info()` says of an exception with this text."""
    try:
        fail(text)
    except ValueError as error:
        return type(error), error, error.__traceback__


def line_formatter():
    return TextFormatter("%(asctime)s %(levelname)s %(message)s")


@pytest.mark.parametrize("hostile", BREAKS + COMMANDS, ids=ascii)
def test_a_message_of_this_package_is_one_printable_line(own, hostile):
    text = formatted(line_formatter(), own, f"failed: a{hostile}{FORGED}")
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("hostile", BREAKS + COMMANDS, ids=ascii)
def test_a_message_of_another_logger_adds_no_line_that_looks_like_a_record(hostile):
    text = formatted(line_formatter(), "users.module", f"a{hostile}{FORGED}")
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("hostile", BREAKS + COMMANDS, ids=ascii)
def test_a_traceback_adds_no_line_that_looks_like_a_record(own, hostile):
    info = raised(f"a{hostile}{FORGED}")
    text = formatted(line_formatter(), own, "failed", exc_info=info)
    first, *others = text[:-1].split("\n")
    assert "failed" in first
    assert all(line.startswith("  | ") and line.isprintable() for line in others)
    assert len(text.splitlines()) == len(others) + 1


def test_a_traceback_that_another_handler_has_formatted_is_formatted_anew(own):
    info = raised(f"a\n{FORGED}")
    record = logging.makeLogRecord({"name": own, "msg": "failed", "exc_info": info})
    plain = logging.Formatter().format(record)
    assert f"\n{FORGED}" in plain
    assert f"\n{FORGED}" not in line_formatter().format(record)
    assert logging.Formatter().format(record) == plain


@pytest.mark.parametrize("hostile", BREAKS + COMMANDS, ids=ascii)
def test_a_json_record_is_one_line_with_the_text_as_it_was(own, hostile):
    given = f"a{hostile}{FORGED}"
    text = formatted(JsonFormatter(), own, given, task=given)
    assert text[:-1].isprintable()
    assert json.loads(text)["message"] == json.loads(text)["task"] == given


@pytest.mark.parametrize("hostile", BREAKS + COMMANDS, ids=ascii)
def test_what_commands_print(capsys, hostile):
    given = f"a{hostile}{FORGED}"
    print_error(given, f"Traceback:\n{given}")
    first, *others = capsys.readouterr().err.split("\n")
    assert first.isprintable()
    assert all(line.startswith("  ") and line.isprintable() for line in others if line)
    print_json({"text": given})
    text = capsys.readouterr().out
    assert json.loads(text) == {"text": given}
    assert all(line.isprintable() for line in text.split("\n"))


def test_printable_text_stays_as_it_is():
    text = "Größe, 漢字, \\n"
    assert printable(text) == text
    assert printable("a\tb\n", keep="\t\n") == "a\tb\n"
    assert indented("a\n  b") == "  a\n    b"
