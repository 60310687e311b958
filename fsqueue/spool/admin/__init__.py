"""What operators see and change: snapshots, lists of calls, pausing, purging, retrying."""
