"""A program that is a worker itself, and whose bodies start other programs."""

import logging
import sys

from programs import app

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    app.make_runner(kind=sys.argv[1], concurrency=1).run()
