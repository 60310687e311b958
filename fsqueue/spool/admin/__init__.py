"""The operator's view of a spool: snapshots, lists of calls, pausing, purging, retrying."""
