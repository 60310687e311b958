"""pynenc with all pauses set to a millisecond, pickled values and a quiet log."""

import os

os.environ["BENCH_TUNED"] = "yes"  # before the application is made, here and in the runner

from pynenc_sqlite import connect

__all__ = ["connect"]
