"""Serializes the frames of tracebacks, and makes tracebacks from them.

A traceback made here prints like the original: file, line, function, and the marks under the part
of the line that failed. The source line is read where the traceback is printed. The variables of
frames are not kept.

The frames never ran. Each belongs to a generator that was never started. This is the only way to
create a frame without `f_back`: a frame that ran keeps its calling frames and their variables
alive. (tblib raises and catches an error in each frame. Its frames refer to their callers, and the
marks are in the wrong place.)
"""

from __future__ import annotations

import ast
from itertools import islice
from types import CodeType, FunctionType, TracebackType
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.codec.texts import capped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

MAX_FRAMES = 1000
_MAX_NAME = 4096
_OWN_PACKAGE = __name__.partition(".")[0]


class Frame(NamedTuple):
    """The position of one frame of a traceback.

    Attributes:
        file: the file name of its code.
        name: the function's name.
        module: the name of its module.
        line: the line that was running, from 1.
        end_line: the last line of the expression that was running.
        column: the first byte of that expression in the line, or -1 if unknown.
        end_column: the byte after its last one, or -1.
    """

    file: str
    name: str
    module: str
    line: int
    end_line: int
    column: int
    end_column: int


def without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Skip the leading frames of this package, unless there are no others."""
    first = traceback
    while first is not None and _module(first.tb_frame).partition(".")[0] == _OWN_PACKAGE:
        first = first.tb_next
    return first or traceback


def frames_of(traceback: TracebackType | None) -> list[Frame]:
    """The frames of a traceback, outermost first.

    If there are more than `MAX_FRAMES`, one frame with a note replaces the middle ones.
    """
    entries: list[TracebackType] = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    if len(entries) <= MAX_FRAMES:
        return [_frame(entry) for entry in entries]
    half = MAX_FRAMES // 2
    mark = f"<{len(entries) - 2 * half} frames left out>"
    return [
        *(_frame(entry) for entry in entries[:half]),
        Frame(mark, mark, "", 1, 1, -1, -1),
        *(_frame(entry) for entry in entries[-half:]),
    ]


def traceback_from(frames: Sequence[Frame]) -> TracebackType | None:
    """A traceback that prints like the one from which `frames_of` took the frames."""
    traceback = None
    for frame in reversed(frames):
        traceback = _traceback(frame, traceback)
    return traceback


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _frame(entry: TracebackType) -> Frame:
    code = entry.tb_frame.f_code
    names = (code.co_filename, code.co_name, _module(entry.tb_frame))
    file, name, module = (capped(text, _MAX_NAME) for text in names)
    # For an instruction without a line, CPython has None or 0, contrary to its annotation.
    line = max(entry.tb_lineno or 1, 1)
    # There is one position per code unit, which has two bytes.
    positions = islice(code.co_positions(), max(entry.tb_lasti, 0) // 2, None)
    match next(positions, None):
        case (int(start), int(end_line), int(column), int(end_column)) if start == line and (
            line,
            column,
        ) <= (end_line, end_column):
            return Frame(file, name, module, line, end_line, column, end_column)
        case _:
            return Frame(file, name, module, line, line, -1, -1)


def _traceback(frame: Frame, following: TracebackType | None) -> TracebackType:
    code = _code_at(frame)
    columns = (frame.column, frame.end_column) if frame.column >= 0 else (None, None)
    unit = list(code.co_positions()).index((frame.line, frame.end_line, *columns))
    module_globals = {"__name__": frame.module, "__file__": frame.file}
    generator = FunctionType(code, module_globals)()
    return TracebackType(following, generator.gi_frame, 2 * unit, frame.line)


def _code_at(frame: Frame) -> CodeType:
    """The code of a generator function, with the frame's position for all its parts."""
    tree = ast.parse("def stub(): yield")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr):
            node.lineno, node.end_lineno = frame.line, frame.end_line
            node.col_offset, node.end_col_offset = frame.column, frame.end_column
    constants = compile(tree, "<fsqueue>", "exec").co_consts
    code = next(constant for constant in constants if isinstance(constant, CodeType))
    return code.replace(co_filename=frame.file, co_name=frame.name, co_qualname=frame.name)
