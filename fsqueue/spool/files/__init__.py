"""The files of a spool: their content and places, and how they are written and read."""
