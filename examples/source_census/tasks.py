"""Count the tokens of Python source files: the work of the census.

`count_file` and `count_batch` are plain functions that know nothing about queues. Only the
task at the end can be called on a worker.
"""

import os
import tokenize
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fsqueue import FSQueue

app = FSQueue("source_census")


@dataclass
class Census:
    """The counts of some files; two of them can be added."""

    files: int = 0
    lines: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)  # file -> why it could not be read

    def add(self, other: "Census") -> None:
        self.files += other.files
        self.lines += other.lines
        self.tokens.update(other.tokens)
        self.skipped.update(other.skipped)


def count_tokens(path: Path) -> Counter[str]:
    """Count the tokens of one file by type."""
    with path.open("rb") as source:
        return Counter(
            tokenize.tok_name[token.type] for token in tokenize.tokenize(source.readline)
        )


def count_file(library: str, name: str) -> Census:
    """Take the census of one file. Some files of the library's tests are not valid Python."""
    path = Path(library, name)
    try:
        tokens = count_tokens(path)
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError) as error:
        reason = f"{type(error).__name__}: {error}".replace(str(path), path.name)
        return Census(skipped={name: reason})
    return Census(files=1, lines=path.read_bytes().count(b"\n"), tokens=tokens)


def count_batch(library: str, names: Iterable[str]) -> Census:
    """Take the census of several files."""
    total = Census()
    for name in names:
        total.add(count_file(library, name))
    return total


@app.task
def census_of(library: str, names: list[str]) -> Census:
    """Take the census of a batch: one call, one file of arguments, one file of results."""
    return count_batch(library, names)


@app.task
def process_id() -> int:
    """Return the id of the worker's process."""
    return os.getpid()
