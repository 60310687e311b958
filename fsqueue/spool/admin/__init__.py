"""Operators' side of a spool: snapshots, lists of calls, pausing, purging, retrying."""
