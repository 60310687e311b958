"""Publishes calls: turns arguments, options and batches into files of the spool."""
