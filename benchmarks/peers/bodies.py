"""The functions that the benchmark calls through each queue."""

import time


def echo(value):
    return value


def length(value):
    return len(value)


def nap(seconds):
    time.sleep(seconds)
    return seconds
