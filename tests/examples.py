"""How many examples hypothesis tries: few for each change, thousands in `.ci/run --full`."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("FSQUEUE_TESTS_EXAMPLES", "")
"""Examples of each property, instead of its own few; empty: those."""


def examples(few: int) -> int:
    """The number of examples of a property.

    Args:
        few: enough to notice what usually breaks, in about a second.
    """
    return max(few, int(THOROUGH or 0))
