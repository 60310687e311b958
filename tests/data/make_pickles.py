"""Writes ``pickles_v1.json``: values of fsqueue's own types, pickled as a version of it did.

``python tests/data/make_pickles.py`` writes it with the fsqueue that is installed. The one in the
repository was written by the last version before the packages were restructured (0.1.0), and is not
to be made again: it stands for values in the files that users have.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from pathlib import Path

import fsqueue
from fsqueue import codec, errors, triggers

FILE = Path(__file__).parent / "pickles_v1.json"


def values():
    """What users can put into arguments and results, by name."""
    yield "state", fsqueue.State.FAILED
    yield "progress", fsqueue.Progress(1.0, 2.0, "half")
    yield "args", fsqueue.args(1, key=2)
    yield "config", fsqueue.FSQueue("pickles", root="/a/spool").conf
    yield (
        "occurrence",
        triggers.Occurrence(
            "1", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), state=fsqueue.State.FAILED
        ),
    )
    yield "cron", triggers.cron("0 3 * * *")
    yield "any", triggers.on_event("a") | triggers.on_status("a.b") | triggers.on_exception("a.b")
    yield "all", triggers.on_event("a") & triggers.on_result("a.b", 1)
    for name in fsqueue.__all__:
        if callable(getattr(fsqueue, name)):
            yield f"fsqueue.{name}", getattr(fsqueue, name)
    for name in triggers.__all__:
        yield f"fsqueue.triggers.{name}", getattr(triggers, name)


def exceptions():
    """Exceptions with values of fsqueue's own types, by name."""
    with_values = LookupError("plain", fsqueue.State.FAILED)
    with_values.progress = fsqueue.Progress(1.0)
    yield "with values", with_values
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.FSQueueError):
            yield name, kind("type", "text") if kind is errors.RemoteError else kind("text")


def main():
    found = {
        "values": {name: codec.encode(value, name) for name, value in values()},
        "exceptions": {name: codec.encode_exception(error) for name, error in exceptions()},
    }
    text = {
        kind: {name: base64.b64encode(data).decode() for name, data in sorted(each.items())}
        for kind, each in found.items()
    }
    FILE.write_text(json.dumps(text, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
