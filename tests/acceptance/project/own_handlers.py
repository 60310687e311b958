"""A script with signal handlers of its own, which runs the runner in its main thread."""

import faulthandler
import os
import signal
import sys

from tasks import app

OWN = (signal.SIGHUP, signal.SIGUSR1)
OTHERS = (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGQUIT)


def say(number, frame):
    # Not by `print`, which fails if a second signal interrupts it.
    os.write(1, f"own {signal.Signals(number).name}\n".encode())


if __name__ == "__main__":
    for each in OWN:
        signal.signal(each, say)
    # A handler in C, of which `signal.getsignal` knows nothing. Not for all threads: it reads their
    # frames while they run, which can crash the process.
    faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=False)
    before = [signal.getsignal(number) for number in OTHERS]
    app.make_runner(kind=sys.argv[1], concurrency=1).run()
    print("restored", [signal.getsignal(number) for number in OTHERS] == before, flush=True)
    signal.raise_signal(signal.SIGHUP)
