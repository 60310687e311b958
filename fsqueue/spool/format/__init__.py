"""Names, paths and contents of the files in a spool. Does no I/O."""
