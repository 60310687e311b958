"""Is a directory fit to be a queue? Probes that measure it and say what they found.

Nothing here prints: `fsqueue.cli.maintain.doctor` does. `examine.examine` runs everything.
"""
