"""Reads and writes the files of a spool, and knows their places."""
