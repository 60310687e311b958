"""Tasks whose failures a report shows."""

from pathlib import Path


def shout_and_fail(word):
    print(f"{word}, on its output")
    raise LookupError(f"no {word} here")


class Revealing(Exception):
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        super().__init__(path)
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)
