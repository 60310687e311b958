"""What the benchmarked functions do, whatever queue they go through."""

import time


def echo(value):
    return value


def length(value):
    return len(value)


def nap(seconds):
    time.sleep(seconds)
    return seconds
