"""The processes of a worker: signals, descendants, threads, and the batch job they run in."""
