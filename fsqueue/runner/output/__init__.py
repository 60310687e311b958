"""What bodies print, log and report, on its way into the spool."""
