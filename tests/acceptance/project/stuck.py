import os
import pathlib
import threading

from fsqueue import FSQueue, triggers

app = FSQueue("stuck")


def forever(payload):
    pathlib.Path(os.environ["MARKS"], "begun").touch()
    threading.Event().wait()


@app.task(triggers=triggers.on_event("paid", forever))
def never(payload): ...
