"""Commands that show what is in a spool, and print results."""
