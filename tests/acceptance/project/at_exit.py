"""Calls a direct task while Python ends.

Usage: at_exit.py early|first|late|await|thread
"""

import asyncio
import atexit
import sys
import threading


def call():
    import echo
    import tasks

    try:
        if how == "await":
            print("value", asyncio.run(tasks.async_nap(0.0)) > 0)
        else:
            print("value", echo.echo(1))
    except RuntimeError as error:
        print("refused", error)
    except BaseException as error:  # noqa: BLE001 - the test looks at it
        print("failed", repr(error))


how = sys.argv[1]
if how in {"early", "first", "await"}:
    atexit.register(call)

import echo  # noqa: E402 - the handler above is to run after those of fsqueue

if how != "first":
    assert echo.echo(0) == 0
if how == "late":
    atexit.register(call)
if how == "thread":
    threading._register_atexit(call)
