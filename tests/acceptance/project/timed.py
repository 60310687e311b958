import os
import pathlib

from fsqueue import FSQueue, current_invocation, triggers

app = FSQueue("timed")


def tick_of(occurrence):
    return (int(occurrence.id),)


@app.task(triggers=triggers.cron("* * * * * *", arguments=tick_of))
def tick(number):
    pathlib.Path(os.environ["MARKS"], f"{number}.{current_invocation().id}").touch()
