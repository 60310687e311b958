"""Reads the results of two calls by their ids, more than once."""

import sys

from tasks import app

good, bad = sys.argv[1:]
values = [app.invocation(good).get(timeout=60) for _ in range(3)]
texts = []
for _ in range(2):
    try:
        app.invocation(bad).get(timeout=60)
    except LookupError as error:
        texts.append(error.args[0])
print(values, texts, app.invocation(good).status, app.invocation(bad).status, sep="|")
