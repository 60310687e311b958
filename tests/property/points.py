"""Lists where the sweeps of every call let an operation fail or die: one line for each point.

    PYTHONPATH=tests python tests/property/points.py >after.txt

A line of the list that is gone is a fault that no test meets any more.
"""

from __future__ import annotations

import logging
import tempfile
from typing import TYPE_CHECKING

from every_call import calls_of, faults_of
from move_sweep import MOVES, sampled_pairs
from sweep import LOCAL, deaths
from test_every_call import SWEPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from every_call import Swept


def points(folder: str, swept: Swept) -> Iterator[str]:
    for mount in swept.mounts:
        there = f"{folder}/{mount}"
        if mount == LOCAL or swept.differs(f"{there}/differs", mount):
            for death in deaths(len(calls_of(f"{there}/deaths", swept, mount))):
                yield f"{swept} {mount}: {death}"
        for number, step, faults in faults_of(f"{there}/faults", swept, mount):
            for fault in faults:
                yield f"{swept} {mount}: {fault} at call {number}, {step.verb}"
    if swept in MOVES:
        for first, second in sampled_pairs(f"{folder}/pairs", swept):
            yield f"{swept}: {first} and {second}"


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        for number, swept in enumerate(SWEPT):
            for point in points(f"{folder}/{number}", swept):
                print(point)


if __name__ == "__main__":
    main()
