"""Features of the spool beyond publishing and claiming calls, one per module."""
