"""Names of the keys that a terminal sends."""

from __future__ import annotations

import re
from typing import Final

# The ends of control sequences, after "ESC [" or "ESC O".
_NAMES: Final = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "Z": "back-tab",
    "1~": "home",
    "4~": "end",
    "5~": "page-up",
    "6~": "page-down",
    "7~": "home",
    "8~": "end",
}
_PLAIN: Final = {
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x15": "erase",
    "\x0c": "redraw",
}
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;<=>?]*[ -/]*([@-~])|O(.))", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;<=>?]*[ -/]*|O)?\Z")


def split_keys(text: str, *, complete: bool) -> tuple[list[str], str]:
    """The names of the keys in a text, and the rest that may be the beginning of another one.

    A key that shows a character has that as its name. Control sequences that are not known are left
    out.

    Args:
        text: what the terminal has sent.
        complete: whether nothing follows for now, so that an escape is the Esc key.
    """
    keys: list[str] = []
    place = 0
    while place < len(text):
        found = _SEQUENCE.match(text, place)
        if found is not None:
            name = _NAMES.get(found[0][2:].replace("1;", "") if found[1] == "~" else found[0][-1])
            keys += [name] if name else []
            place = found.end()
        elif _UNFINISHED.match(text, place):
            if not complete:
                return keys, text[place:]
            return [*keys, "escape"], ""
        else:
            character = text[place]
            name = _PLAIN.get(character, character if character.isprintable() else "")
            keys += ["escape"] if character == "\x1b" else [name] if name else []
            place += 1
    return keys, ""
