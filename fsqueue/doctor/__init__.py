"""The doctor: checks by measurement whether a directory is fit to be a spool.

`examine.examine` runs all probes and returns a report; `fsqueue.cli.maintain.doctor` prints it.
"""
