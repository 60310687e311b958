"""`fsqueue.Executor`: a `concurrent.futures.Executor` whose calls run on the workers of a spool.

Functions travel by value, so that lambdas, closures and functions of the main script can be
called. A built-in application runs them. Its name contains the version of Python, because the byte
code of a function must never reach another version.
"""
