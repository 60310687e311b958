"""The files of a spool: what they say, where they are, and how they are written and read."""
